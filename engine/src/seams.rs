//! Where tests reach into the source.

/// Whether a mutation is switched on: a deliberate defect that some model or property must notice.
///
/// In the library none is, and the code behind it is not compiled. The models compile the sources
/// with a macro of their own in this place.
macro_rules! mutated {
    ($mutation:ident) => {
        false
    };
}
