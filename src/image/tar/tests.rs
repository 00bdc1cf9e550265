use super::*;
#[test]
fn times_before_1970() {
    assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
    assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
    assert_eq!(time(b"x"), None);
}
