//! Quantities of resources: `500m`, `1Gi`, `1e3`, read exactly and written in Kubernetes' canonical form.
//!
//! Kept in units of 10⁻⁹, which is as fine as Kubernetes keeps them; what is finer is rounded away from zero.

use std::fmt;

/// How many of our units make one.
const ONE: i128 = 1_000_000_000;

/// Which suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `m`, `k`, `M`, …
    Decimal,
    /// `Ki`, `Mi`, …
    Binary,
    /// `e3`, `e6`, …
    Exponent,
}

/// An amount of something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantity {
    nano: i128,
    format: Format,
}

/// A text is no quantity; the words are those of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoQuantity {
    /// Not of the form at all.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// A suffix that there is not.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Ten to a power.
fn ten(power: u32) -> i128 {
    10_i128.checked_pow(power).unwrap_or(i128::MAX)
}

/// The multiple of 10⁻⁹ that a suffix stands for, as numerator and denominator.
fn scale(suffix: &str) -> Option<(i128, i128, Format)> {
    let power = |exponent: i32, format| {
        let shift = exponent + 9;
        let factor = ten(shift.unsigned_abs().min(38));
        Some(if shift >= 0 { (factor, 1, format) } else { (1, factor, format) })
    };
    if let Some((_, exponent)) = DECIMAL.iter().find(|(known, _)| *known == suffix) {
        return power(*exponent, Format::Decimal);
    }
    if let Some(index) = BINARY.iter().position(|known| *known == suffix) {
        let factor = (0..=index).fold(ONE, |factor, _| factor * 1024);
        return Some((factor, 1, Format::Binary));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    power(exponent.parse().ok()?, Format::Exponent)
}

impl Quantity {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Self, NoQuantity> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.is_empty() || fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(NoQuantity::Form);
        }
        let plain = |c: char| "eEinumkKMGTP+-".contains(c) || c.is_ascii_digit();
        if !suffix.chars().all(plain) {
            return Err(NoQuantity::Form);
        }
        let (numerator, denominator, format) = scale(suffix).ok_or(NoQuantity::Suffix)?;
        let digits =
            |text: &str| text.bytes().fold(0_i128, |sum, d| sum.saturating_mul(10).saturating_add((d - b'0').into()));
        let fraction = &fraction[..fraction.len().min(18)];
        let places = ten(u32::try_from(fraction.len()).unwrap_or(18));
        let mantissa = digits(whole).saturating_mul(places).saturating_add(digits(fraction));
        let denominator = places.saturating_mul(denominator);
        let scaled = mantissa.saturating_mul(numerator);
        let nano = scaled / denominator + i128::from(scaled % denominator != 0);
        Ok(Self { nano: if text.starts_with('-') { -nano } else { nano }, format })
    }

    /// Rounded up to thousandths, finer than which no resource is counted.
    #[must_use]
    pub(crate) fn in_thousandths(self) -> Self {
        let rest = self.nano.rem_euclid(ONE / 1000);
        Self { nano: if rest == 0 { self.nano } else { self.nano - rest + ONE / 1000 }, ..self }
    }

    /// In ones, rounded up: what memory and pods are counted in.
    pub(crate) fn whole(self) -> i64 {
        Self::ceil(self.nano, ONE)
    }

    /// In 10⁻⁹.
    pub(crate) const fn nano(self) -> i128 {
        self.nano
    }

    /// Whether it is less than nothing.
    pub(crate) const fn is_negative(self) -> bool {
        self.nano < 0
    }

    fn ceil(value: i128, unit: i128) -> i64 {
        let up = value.div_euclid(unit) + i128::from(value.rem_euclid(unit) != 0);
        i64::try_from(up).unwrap_or(if up < 0 { i64::MIN } else { i64::MAX })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano.abs() < 1024 * ONE;
        if self.format == Format::Binary && !small && self.nano % ONE == 0 {
            let mut number = self.nano / ONE;
            let mut power = 0;
            while number % 1024 == 0 && power < BINARY.len() {
                number /= 1024;
                power += 1;
            }
            let suffix = power.checked_sub(1).map_or("", |index| BINARY[index]);
            return write!(f, "{number}{suffix}");
        }
        let (mut number, mut exponent) = (self.nano, -9);
        while number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        if self.format == Format::Exponent {
            return if exponent == 0 { write!(f, "{number}") } else { write!(f, "{number}e{exponent}") };
        }
        let suffix = DECIMAL.iter().find(|(_, known)| *known == exponent).map_or("", |(suffix, _)| suffix);
        write!(f, "{number}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_canonically() {
        for (text, canonical) in [
            ("1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("1024Mi", "1Gi"),
            ("1000Ki", "1000Ki"),
            ("1023Ki", "1023Ki"),
            ("0.5Gi", "512Mi"),
            ("512", "512"),
            ("1000", "1k"),
            ("100000", "100k"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e5", "1200e3"),
            ("0", "0"),
            ("0Gi", "0"),
            ("-1", "-1"),
            ("+5", "5"),
            ("1.5Ki", "1536"),
            ("0.0000000001", "1n"),
            (".5", "500m"),
            ("5.", "5"),
            ("1Ei", "1Ei"),
            ("100E", "100E"),
        ] {
            assert_eq!(Quantity::parse(text).map(|quantity| quantity.to_string()), Ok(canonical.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for (text, why) in [
            ("", NoQuantity::Form),
            ("x", NoQuantity::Form),
            ("1.2.3", NoQuantity::Form),
            ("1 Gi", NoQuantity::Form),
            (".", NoQuantity::Form),
            ("1K", NoQuantity::Suffix),
            ("1mi", NoQuantity::Suffix),
            ("1e", NoQuantity::Suffix),
        ] {
            assert_eq!(Quantity::parse(text).map(|quantity| quantity.to_string()), Err(why), "{text}");
        }
        assert_eq!(Quantity::parse("1500m").map(Quantity::whole), Ok(2));
    }
}
