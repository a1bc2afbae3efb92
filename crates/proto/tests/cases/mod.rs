//! How much random input the tests of text formats get.

use proptest::prelude::ProptestConfig;

/// Proptest's own number of cases; a handful under Miri, which is some hundred times slower and lets nothing be
/// written to disk.
pub(crate) fn cases() -> ProptestConfig {
    if cfg!(miri) {
        ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() }
    } else {
        ProptestConfig::default()
    }
}
