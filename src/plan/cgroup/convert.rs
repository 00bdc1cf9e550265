//! From the units of `linux.resources`, which are version 1's, to those of version 2.

/// `cpu.shares` (2 to 262144, 1024 is the default) to `cpu.weight` (1 to 10000, 100 is the default): a curve
/// through the two ends and the default.
pub(super) fn shares_to_weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    // The curve goes through whole numbers; do not let a rounding error push one of them up.
    (10f64.powf(exponent) - 1e-9).ceil() as u64
}

/// `blkio.weight` (10 to 1000) to `io.weight` (1 to 10000), linear.
pub(super) fn blkio_to_io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.max(10) - 10) * 9999 / 990
}

/// Memory plus swap to swap alone: what `memory.swap.max` gets, or `None` when swap stays as it is.
/// Zero is "not set" in both arguments, -1 is "no limit".
pub(super) fn swap_max(swap: i64, limit: i64) -> Result<Option<String>, &'static str> {
    let max = || Ok(Some("max".to_owned()));
    match (swap, limit) {
        // As version 1 does it: memory without a limit includes swap without a limit.
        (0, -1) | (-1, _) => max(),
        (0, _) => Ok(None),
        (s, -1) => Ok(Some(s.to_string())),
        (_, 0) => Err("unable to set swap limit without memory limit"),
        (s, l) if s < l => Err("memory+swap limit should be >= memory limit"),
        (s, l) => Ok(Some((s - l).to_string())),
    }
}

/// The page size as the names of the hugetlb files have it: `2048KB` is `2MB`. `None` when it is not a valid size.
pub(super) fn page_size(text: &str) -> Option<String> {
    let digits = text.trim_end_matches("KB").trim_end_matches("MB").trim_end_matches("GB");
    let unit = &text[digits.len()..];
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut n: u64 = digits.parse().ok()?;
    let mut power = match unit {
        "KB" => 0,
        "MB" => 1,
        "GB" => 2,
        _ => return None,
    };
    while n >= 1024 && n.is_multiple_of(1024) && power < 2 {
        n /= 1024;
        power += 1;
    }
    Some(format!("{n}{}", ["KB", "MB", "GB"][power]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_meet_the_fixed_points_and_grow() {
        for (shares, weight) in [(1, 1), (2, 1), (3, 2), (1024, 100), (262_143, 10_000), (262_144, 10_000)] {
            assert_eq!(shares_to_weight(shares), weight, "{shares}");
        }
        assert_eq!(shares_to_weight(512), 59);
        assert_eq!(shares_to_weight(u64::MAX), 10_000);
        let mut last = 0;
        for s in 0..=262_144 {
            let w = shares_to_weight(s);
            assert!(w >= last && (1..=10_000).contains(&w), "{s} -> {w}");
            last = w;
        }
    }

    #[test]
    fn blkio_weights_are_linear() {
        assert_eq!(blkio_to_io_weight(10), 1);
        assert_eq!(blkio_to_io_weight(500), 4950);
        assert_eq!(blkio_to_io_weight(1000), 10_000);
    }

    #[test]
    fn swap_is_the_difference() {
        let ok = |s, l| swap_max(s, l).unwrap();
        assert_eq!(ok(300, 100).as_deref(), Some("200"));
        assert_eq!(ok(100, 100).as_deref(), Some("0"));
        assert_eq!(ok(-1, 100).as_deref(), Some("max"));
        assert_eq!(ok(-1, 0).as_deref(), Some("max"));
        assert_eq!(ok(0, -1).as_deref(), Some("max"));
        assert_eq!(ok(500, -1).as_deref(), Some("500"));
        assert_eq!(ok(0, 100), None);
        assert!(swap_max(100, 200).is_err());
        assert!(swap_max(100, 0).is_err());
    }

    #[test]
    fn page_sizes_are_named_as_the_kernel_names_them() {
        assert_eq!(page_size("2MB").as_deref(), Some("2MB"));
        assert_eq!(page_size("2048KB").as_deref(), Some("2MB"));
        assert_eq!(page_size("1048576KB").as_deref(), Some("1GB"));
        assert_eq!(page_size("64KB").as_deref(), Some("64KB"));
        assert_eq!(page_size("16384MB").as_deref(), Some("16GB"));
        for bad in ["", "MB", "2M", "02MB", "2mb", "-2MB", "2KBMB", "2MB/..", "99999999999999999999KB"] {
            assert_eq!(page_size(bad), None, "{bad}");
        }
    }
}
