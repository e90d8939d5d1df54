//! What somebody probably meant.

/// The nearest of some words, if any is near: a third of the letters may differ, and never more than three.
pub(crate) fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    // A long word is no typing error of a short one, and costs much.
    let most = (length.max(2) / 3).clamp(1, 3);
    if length == 0 || length > 64 {
        return None;
    }
    known
        .into_iter()
        .filter(|known| known.len() <= 4 * (length + most) && known.chars().count().abs_diff(length) <= most)
        .map(|known| (distance(&word, &known.to_lowercase()), known))
        .filter(|&(distance, _)| distance > 0 && distance <= most)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

/// How many letters two words differ by, where two that are swapped are one (Damerau, restricted).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let mut least = (row[j] + usize::from(a[i] != b[j])).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_no_far_one() {
        let known = ["RUN", "FROM", "ENTRYPOINT", "COPY"];
        for (word, meant) in [
            ("RUNN", Some("RUN")),
            ("RNU", Some("RUN")),
            ("form", Some("FROM")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("CPY", Some("COPY")),
            ("EXEC", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), known), None);
    }
}
