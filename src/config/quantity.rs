//! Values with units: Kubernetes' quantities (`100m`, `64Mi`), durations (`1.5s`), factors and signals.

use core::time::Duration;
use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

use super::signals;

/// CPU time in thousandths of one CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MilliCpu(pub u64);

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A factor in hundredths, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor(pub u32);

impl Factor {
    pub const TWO: Factor = Factor(200);
}

/// A number of replicas, or a share of all of them: `2` or `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntOrPercent {
    /// A number.
    Int(u32),
    /// A part of the total, in percent.
    Percent(u32),
}

impl IntOrPercent {
    /// Reads `2` or `25%`.
    #[must_use]
    pub fn parse(text: &str) -> Option<IntOrPercent> {
        let digits = text.strip_suffix('%').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let n: u32 = plain.then(|| digits.parse().ok())??;
        Some(if digits.len() < text.len() { IntOrPercent::Percent(n) } else { IntOrPercent::Int(n) })
    }

    /// The number that this is of `total`; a percentage is rounded up or down.
    #[must_use]
    pub fn resolve(self, total: u32, up: bool) -> u32 {
        match self {
            IntOrPercent::Int(n) => n,
            IntOrPercent::Percent(p) => {
                let hundredths = u64::from(total) * u64::from(p);
                let n = if up { hundredths.div_ceil(100) } else { hundredths / 100 };
                u32::try_from(n).unwrap_or(u32::MAX)
            }
        }
    }
}

impl fmt::Display for IntOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IntOrPercent::Int(n) => write!(f, "{n}"),
            IntOrPercent::Percent(n) => write!(f, "{n}%"),
        }
    }
}

impl Serialize for IntOrPercent {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            IntOrPercent::Int(n) => s.serialize_u32(*n),
            percent @ IntOrPercent::Percent(_) => s.collect_str(percent),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrPercent {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<IntOrPercent, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Int(u32),
            Text(String),
        }
        match Form::deserialize(d)? {
            Form::Int(n) => Ok(IntOrPercent::Int(n)),
            Form::Text(t) => IntOrPercent::parse(&t)
                .ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&t), &"a number or a percentage")),
        }
    }
}

/// A signal by its number; in files by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(pub i32);

/// An exact decimal number: `digits` divided by ten to the power of `scale`.
#[derive(Debug, Clone, Copy)]
struct Decimal {
    digits: u128,
    scale: u32,
}

impl Decimal {
    /// Reads `12`, `1.5`, `.5`, `5.`: no sign, no exponent, at most 27 digits.
    fn new(text: &str) -> Option<Decimal> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = [whole, fraction].concat();
        if digits.is_empty() || digits.len() > 27 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Decimal { digits: digits.parse().ok()?, scale: fraction.len() as u32 })
    }

    /// The number times `multiplier` divided by ten to the power of `less`, rounded up to a whole one, as
    /// Kubernetes rounds what a unit cannot express.
    fn times(self, multiplier: u128, less: u32) -> Option<u64> {
        let product = self.digits.checked_mul(multiplier)?;
        let whole = product.div_ceil(10u128.checked_pow(self.scale + less)?);
        u64::try_from(whole).ok()
    }
}

/// Number, multiplier and negative decimal exponent of a Kubernetes quantity.
///
/// The suffixes are `n u m`, none, `k M G T P E`, `Ki Mi Gi Ti Pi Ei` and decimal exponents (`1e3`).
fn quantity(text: &str) -> Option<(Decimal, u128, u32)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number = Decimal::new(number)?;
    let power = |n: u32| 10u128.pow(n);
    let (multiplier, less) = match suffix {
        "" => (1, 0),
        "n" => (1, 9),
        "u" => (1, 6),
        "m" => (1, 3),
        "k" => (power(3), 0),
        "M" => (power(6), 0),
        "G" => (power(9), 0),
        "T" => (power(12), 0),
        "P" => (power(15), 0),
        "E" => (power(18), 0),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            match exponent {
                0..=18 => (power(exponent as u32), 0),
                -9..0 => (1, exponent.unsigned_abs()),
                _ => return None,
            }
        }
    };
    Some((number, multiplier, less))
}

impl MilliCpu {
    /// Reads `100m`, `0.5`, `2`, `1e-1`; rounds up to a thousandth.
    pub fn parse(text: &str) -> Option<MilliCpu> {
        let (number, multiplier, less) = quantity(text)?;
        number.times(multiplier.checked_mul(1000)?, less).map(MilliCpu)
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

impl Bytes {
    /// Reads `134217728`, `64Mi`, `1.5G`, `1e6`; rounds up to a byte.
    pub fn parse(text: &str) -> Option<Bytes> {
        let (number, multiplier, less) = quantity(text)?;
        number.times(multiplier, less).map(Bytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
        let exact = |shift: &u32| self.0 != 0 && self.0.trailing_zeros() >= *shift;
        match units.iter().find(|(shift, _)| exact(shift)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Factor {
    /// Reads `2`, `1.5`; from 1 to 1000.
    pub fn parse(text: &str) -> Option<Factor> {
        let hundredths = Decimal::new(text)?.times(100, 0)?;
        (100..=100_000).contains(&hundredths).then_some(Factor(hundredths as u32))
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 100.0)
    }
}

impl Signal {
    pub const TERM: Signal = Signal(libc::SIGTERM);

    /// Reads `SIGTERM`, `TERM`, `SIGRTMIN+3`, `15`.
    pub fn parse(text: &str) -> Option<Signal> {
        signals::number(text).filter(|n| *n > 0).map(Signal)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signals::name(self.0) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Reads bytes as Docker and Compose write them: a number and a unit of 1024, in either case (`64m`, `1.5gb`, `1GiB`).
pub fn docker_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let unit = unit.trim();
    let plain = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let shift = ["", "k", "m", "g", "t", "p"].iter().position(|u| *u == plain)? as u32 * 10;
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(1 << shift),
        Err(_) => {
            let bytes = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
            (bytes < i64::MAX as f64).then_some(bytes as u64)
        }
    }
}

/// The longest duration: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Reads a duration: a number of seconds (`30`, `0.5`) or numbers with the units `ns`, `us`, `ms`, `s`, `m`, `h`,
/// `d` (`500ms`, `1m30s`), up to ten years.
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    if !text.is_empty() && text.chars().all(is_number) {
        return within(Decimal::new(text)?.times(1_000_000_000, 0)?);
    }
    let (mut total, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        let nanos = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        total = total.checked_add(Decimal::new(number)?.times(nanos, 0)?)?;
        rest = tail;
    }
    if text.is_empty() { None } else { within(total) }
}

fn within(nanos: u64) -> Option<Duration> {
    Some(Duration::from_nanos(nanos)).filter(|d| *d <= LONGEST)
}

/// A duration in seconds as a plain number with as many decimals as it needs.
pub fn in_seconds(d: Duration) -> String {
    let text = format!("{}.{:09}", d.as_secs(), d.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads a scalar, a string or a number, by `parse`.
struct Scalar<T> {
    parse: fn(&str) -> Option<T>,
    expecting: &'static str,
}

impl<T> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! as_text {
    ($($type:ident, $expecting:literal;)*) => {
        $(impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<$type, D::Error> {
                d.deserialize_any(Scalar { parse: $type::parse, expecting: $expecting })
            }
        })*
    };
}

as_text! {
    MilliCpu, "a number of CPUs such as 0.5 or 500m";
    Bytes, "a number of bytes such as 67108864 or 64Mi";
    Signal, "the name of a signal such as SIGTERM";
}

impl Serialize for Factor {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 % 100 {
            0 => s.serialize_u32(self.0 / 100),
            _ => s.serialize_f64(f64::from(self.0) / 100.0),
        }
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Factor, D::Error> {
        d.deserialize_any(Scalar { parse: Factor::parse, expecting: "a factor from 1 to 1000" })
    }
}

/// Durations as serde's `with`: whole seconds as a number, others as text with a unit.
pub mod seconds {
    use super::*;

    pub fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        match d.subsec_nanos() {
            0 => s.serialize_u64(d.as_secs()),
            _ => s.collect_str(&format_args!("{}s", in_seconds(*d))),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        d.deserialize_any(Scalar { parse: duration, expecting: "seconds, or a duration such as 1.5s" })
    }

    /// The same for a duration that may be absent.
    pub mod option {
        use super::*;

        pub fn serialize<S: Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
            match d {
                Some(d) => super::serialize(d, s),
                None => s.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
            let value = serde_json::Value::deserialize(d)?;
            match value {
                serde_json::Value::Null => Ok(None),
                value => super::deserialize(value).map(Some).map_err(D::Error::custom),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, bytes) in [
            ("0", 0),
            ("128974848", 128_974_848),
            ("129e6", 129_000_000),
            ("129M", 129_000_000),
            ("123Mi", 123 << 20),
            ("1.5Gi", 3 << 29),
            ("1k", 1000),
            ("1Ki", 1024),
            ("0.5Ki", 512),
            (".5k", 500),
            ("1500m", 2),
            ("1E", 1_000_000_000_000_000_000),
            ("15Ei", 15 << 60),
            ("25e-1", 3),
        ] {
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)), "{text}");
        }
        for text in
            ["", "-1", "+1", "1K", "1mi", "1 Mi", "Mi", "1.2.3", "1e", "1e99", "16Ei", "1MB", "0x10", "."]
        {
            assert_eq!(Bytes::parse(text), None, "{text}");
        }
        for (text, milli) in
            [("100m", 100), ("0.1", 100), ("2", 2000), ("0.0001", 1), ("1k", 1_000_000), ("100u", 1)]
        {
            assert_eq!(MilliCpu::parse(text), Some(MilliCpu(milli)), "{text}");
        }
    }

    #[test]
    fn quantities_are_written_short_and_exact() {
        for (bytes, text) in
            [(0, "0"), (1000, "1000"), (1024, "1Ki"), (64 << 20, "64Mi"), (3 << 29, "1536Mi")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)));
        }
        assert_eq!(MilliCpu(1500).to_string(), "1500m");
        assert_eq!(MilliCpu(2000).to_string(), "2");
    }

    #[test]
    fn durations_are_exact() {
        for (text, nanos) in [
            ("30", 30_000_000_000),
            ("0", 0),
            ("0.5", 500_000_000),
            ("1.5s", 1_500_000_000),
            ("1m30s", 90_000_000_000),
            ("250ms", 250_000_000),
            ("1d", 86_400_000_000_000),
            ("0.1us", 100),
        ] {
            assert_eq!(duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "s", "-1", "1x", "1s 2s", "1..2s", "5 s", "1e3", "99999d", "1m30"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(in_seconds(Duration::from_millis(1500)), "1.5");
        assert_eq!(in_seconds(Duration::from_secs(100)), "100");
    }

    #[test]
    fn factors_and_signals() {
        for (text, hundredths) in [("1", 100), ("2", 200), ("1.5", 150), ("1000", 100_000)] {
            assert_eq!(Factor::parse(text), Some(Factor(hundredths)), "{text}");
        }
        for text in ["0", "0.99", "1001", "-2", "x", ""] {
            assert_eq!(Factor::parse(text), None, "{text}");
        }
        assert_eq!(Factor(150).to_string(), "1.5");
        assert_eq!(Signal::parse("quit").unwrap().to_string(), "SIGQUIT");
        assert_eq!(Signal::parse("RTMIN+3").unwrap().to_string(), "SIGRTMIN+3");
        assert_eq!(Signal::parse("0"), None);
    }
}
