//! What a word may have been meant to be.

/// "did you mean", or all that is known.
pub(crate) fn suggest<'k>(word: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => {
            let all: Vec<_> = known.map(|word| format!("\"{word}\"")).collect();
            format!("one of: {}", all.join(", "))
        }
    }
}

/// The nearest of the known words, if one is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.chars().count() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_and_not_other_words() {
        let known = ["listen", "origin", "limits"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("Orgin", known), Some("origin"));
        assert_eq!(nearest("password", known), None);
    }
}
