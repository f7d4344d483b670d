//! Which copy of these programs works, while a new one takes over from an old one.
//!
//! In: the number that the loader gave this copy, and the one that is to work. Out: whether that
//! is this copy. A new monitor attaches its programs beside those that an earlier one left, on the
//! same maps, and then changes one number: every operation is seen by one copy. Only one that is
//! under way at that moment can be seen by both, and none by neither, since programs run in the
//! order in which they were attached.

use crate::{kernel::Setting, maps::GENERATION};

/// The number of this copy. Written by the loader; 0 where nothing is left to a later monitor.
#[unsafe(no_mangle)]
static OWN_GENERATION: Setting = Setting::new(0);

/// Whether this copy is the one that works.
#[inline(always)]
pub fn is_current() -> bool {
    GENERATION
        .get(0)
        .is_none_or(|current| *current == OWN_GENERATION.load())
}
