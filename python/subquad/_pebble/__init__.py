"""Red-blue pebbling: graphs, the game, searches and schedules behind `subquad.pebble`."""
