//! "Did you mean": the name that somebody probably wanted to write.

/// The candidate that is nearest to `name`, if one is near: at most a third of the longer name differs.
pub fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing costs the product of the lengths, and the name may come from anybody.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_lowercase();
    let distance = |candidate: &'a str| {
        let distance = strsim::osa_distance(&name, &candidate.to_lowercase());
        let longer = name.chars().count().max(candidate.chars().count());
        (distance <= longer / 3).then_some((distance, candidate))
    };
    candidates.filter_map(distance).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = || ["add", "divide", "greet"].into_iter();
        assert_eq!(closest("divde", names()), Some("divide"));
        assert_eq!(closest("Add", names()), Some("add"));
        assert_eq!(closest("multiply", names()), None);
    }
}
