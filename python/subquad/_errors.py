"""What subquad raises and warns with, beside `ValueError` and `TypeError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._plan import Plan

__all__ = ["AccuracyWarning", "CertificateError"]


class CertificateError(ValueError):
    """The certified error of some row exceeds the budget, and ``fallback="raise"`` was asked for.

    Attributes
    ----------
    plan : Plan
        What was decided for the call, with the numbers it was decided from.
    """

    def __init__(self, message: str, plan: Plan) -> None:
        super().__init__(message)
        self.plan = plan

    def __reduce__(self) -> tuple[type[CertificateError], tuple[str, Plan]]:
        """Rebuild from both arguments, so that the error crosses process boundaries whole."""
        return CertificateError, (str(self), self.plan)


class AccuracyWarning(UserWarning):
    """The certified error of some row exceeds the budget, and ``fallback="warn"`` was asked for."""
