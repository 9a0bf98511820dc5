//! A checker is worth what it finds: violations, planted in what is sound.

/// What is planted, what the checker says of it, and how.
pub(crate) type Plant<'a, S> = (&'a str, &'a str, fn(&mut S));

/// Plants each violation in a copy, and sees that the checker finds it and says what it is.
pub(crate) fn each_is_found<S: Clone, T>(
    sound: &S,
    check: impl Fn(&S) -> Result<T, String>,
    plants: &[Plant<S>],
) {
    for (what, says, plant) in plants {
        let mut planted = sound.clone();
        plant(&mut planted);
        match check(&planted) {
            Ok(_) => panic!("{what} is not found"),
            Err(error) => assert!(error.contains(says), "{what}: {error}"),
        }
    }
}
