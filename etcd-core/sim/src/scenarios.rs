//! Single faults, one by one, with what must come of them.
