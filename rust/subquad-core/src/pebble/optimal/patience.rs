//! When to give up in the midst of a step: sets of what may be evicted can be too many to list.

use std::time::Instant;

use crate::par::Pulse;

/// Looks now and then whether somebody wants the call to stop, or its time is over.
pub struct Patience<'a, 'b> {
    pulse: Option<&'a Pulse<'b>>,
    until: Option<Instant>,
    looks: u32,
    is_over: bool,
}

impl<'a, 'b> Patience<'a, 'b> {
    pub fn new(pulse: &'a Pulse<'b>, until: Option<Instant>) -> Self {
        Self { pulse: Some(pulse), until, looks: 0, is_over: false }
    }

    /// Is never over.
    pub fn endless() -> Self {
        Self { pulse: None, until: None, looks: 0, is_over: false }
    }

    /// Is it over? What has been found since it began is then not all.
    pub fn is_over(&mut self) -> bool {
        const BETWEEN_LOOKS: u32 = 64;
        self.looks += 1;
        if self.looks.is_multiple_of(BETWEEN_LOOKS) { self.look() } else { self.is_over }
    }

    /// Is it over now?
    pub fn look(&mut self) -> bool {
        let stopped = self.pulse.is_some_and(Pulse::stopped);
        self.is_over |= stopped || self.until.is_some_and(|until| Instant::now() >= until);
        self.is_over
    }
}
