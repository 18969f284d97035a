//! Exact decimals, read and written as text, without floats or fixed-width decimals.

use std::cmp::Ordering;

/// The most digits, and the largest exponent, of a number. DynamoDB's own numbers have 38 digits and
/// exponents from -130 to 125; the limit keeps a short text from becoming a very long one.
const SIZE_MAX: usize = 400;

/// A decimal number as a view of its text, without leading or trailing zeros.
///
/// Its value is `0.d1 d2 … dn x 10^point`, so equal numbers have equal parts, whatever their text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decimal<'a> {
    negative: bool,
    /// The significant digits before the decimal point of the text.
    head: &'a [u8],
    /// The significant digits after it.
    tail: &'a [u8],
    point: i32,
}

impl<'a> Decimal<'a> {
    /// Reads `[+-] digits [. digits] [e [+-] digits]`; `None` for anything else (`NaN`, `inf`,
    /// blanks), and for sizes beyond [`SIZE_MAX`].
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (negative, bytes) = match bytes {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, bytes),
        };
        let (mantissa, exponent) = match bytes.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (bytes.get(..at)?, exponent(bytes.get(at + 1..)?)?),
            None => (bytes, 0),
        };
        let (head, tail) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(at) => (mantissa.get(..at)?, mantissa.get(at + 1..)?),
            None => (mantissa, &[][..]),
        };
        let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        if head.len() + tail.len() == 0
            || head.len() + tail.len() > SIZE_MAX
            || !digits(head)
            || !digits(tail)
        {
            return None;
        }
        Some(Self::trimmed(negative, head, tail, exponent))
    }

    fn trimmed(negative: bool, mut head: &'a [u8], mut tail: &'a [u8], exponent: i32) -> Self {
        let mut point = exponent + i32::try_from(head.len()).unwrap_or(i32::MAX / 2);
        while let [b'0', rest @ ..] = head {
            head = rest;
            point -= 1;
        }
        if head.is_empty() {
            while let [b'0', rest @ ..] = tail {
                tail = rest;
                point -= 1;
            }
        }
        while let [rest @ .., b'0'] = tail {
            tail = rest;
        }
        if tail.is_empty() {
            while let [rest @ .., b'0'] = head {
                head = rest;
            }
        }
        if head.is_empty() && tail.is_empty() {
            return Self { negative: false, head, tail, point: 0 };
        }
        Self { negative, head, tail, point }
    }

    /// Whether the number is zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.digits() == 0
    }

    /// The number of significant digits.
    fn digits(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    fn iter(&self) -> impl Iterator<Item = u8> {
        self.head.iter().chain(self.tail).copied()
    }

    /// The number of digits before the decimal point; 0 below one.
    pub(crate) fn whole_digits(&self) -> usize {
        usize::try_from(self.point).unwrap_or(0)
    }

    /// The number of digits after the decimal point.
    pub(crate) fn scale(&self) -> usize {
        let digits = i64::try_from(self.digits()).unwrap_or(i64::MAX);
        usize::try_from(digits - i64::from(self.point)).unwrap_or(0)
    }

    /// The same number times `10^power`.
    pub(crate) fn shifted(self, power: i32) -> Self {
        if self.is_zero() { self } else { Self { point: self.point + power, ..self } }
    }

    /// The value, if it is whole and below 10^37 in size.
    pub(crate) fn integer(&self) -> Option<i128> {
        if self.scale() > 0 || self.whole_digits() > 37 {
            return None;
        }
        let mut value: i128 = 0;
        for digit in self.iter() {
            value = value * 10 + i128::from(digit - b'0');
        }
        for _ in self.digits()..self.whole_digits() {
            value *= 10;
        }
        Some(if self.negative { -value } else { value })
    }

    /// Appends the canonical text as Postgres prints a `numeric`: plain, no exponent, no needless zeros.
    pub(crate) fn write(&self, out: &mut String) {
        if self.is_zero() {
            out.push('0');
            return;
        }
        if self.negative {
            out.push('-');
        }
        if self.point <= 0 {
            out.push_str("0.");
            zeros(out, usize::try_from(-self.point).unwrap_or(0));
        }
        let whole = self.whole_digits();
        for (index, digit) in self.iter().enumerate() {
            if index > 0 && index == whole {
                out.push('.');
            }
            out.push(char::from(digit));
        }
        zeros(out, whole.saturating_sub(self.digits()));
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.is_zero(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let size = || self.point.cmp(&other.point).then_with(|| self.iter().cmp(other.iter()));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            1 => size(),
            _ => size().reverse(),
        })
    }
}

fn zeros(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n('0', count));
}

fn exponent(bytes: &[u8]) -> Option<i32> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0_i32, |value, digit| value * 10 + i32::from(digit - b'0'));
    if usize::try_from(value).ok()? > SIZE_MAX {
        return None;
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> Option<String> {
        let mut out = String::new();
        Decimal::parse(text)?.write(&mut out);
        Some(out)
    }

    #[test]
    fn equal_numbers_have_equal_text() {
        for text in ["1", "1.0", "1E0", "+1", "0.1e1", "10E-1", "001", "1."] {
            assert_eq!(canonical(text).as_deref(), Some("1"), "{text}");
        }
        for text in ["0", "-0", "0.000", "0E5", "-0E-130"] {
            assert_eq!(canonical(text).as_deref(), Some("0"), "{text}");
        }
        assert_eq!(canonical("-12.3400").as_deref(), Some("-12.34"));
        assert_eq!(canonical("1.05E3").as_deref(), Some("1050"));
        assert_eq!(canonical(".5").as_deref(), Some("0.5"));
    }

    #[test]
    fn the_extremes_are_exact() {
        let tiny = canonical("1E-130").unwrap();
        assert_eq!(tiny, format!("0.{}1", "0".repeat(129)));
        let huge = canonical("9.9999999999999999999999999999999999999E+125").unwrap();
        assert_eq!(huge, format!("{}{}", "9".repeat(38), "0".repeat(88)));
    }

    #[test]
    fn words_are_not_numbers() {
        let wrong = ["", "-", ".", "e5", "NaN", "Infinity", "-inf", "1 ", " 1", "1e", "0x1", "1_0"];
        for text in wrong.into_iter().chain(["1e999999999", "1e401", "١"]) {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn integers_are_taken_whole_or_not_at_all() {
        let integer = |text| Decimal::parse(text).unwrap().integer();
        assert_eq!(integer("-9223372036854775808"), Some(i128::from(i64::MIN)));
        assert_eq!(integer("1.2E3"), Some(1200));
        assert_eq!(integer("1.5"), None);
        assert_eq!(integer("1E40"), None);
        assert_eq!(integer("0"), Some(0));
    }

    proptest! {
        #[test]
        fn writing_and_reading_again_changes_nothing(
            text in "-?[0-9]{1,20}(\\.[0-9]{1,18})?(E-?[0-9]{1,2})?"
        ) {
            let once = canonical(&text).unwrap();
            prop_assert_eq!(canonical(&once).unwrap(), once.clone());
            let (read, again) = (Decimal::parse(&text).unwrap(), Decimal::parse(&once).unwrap());
            prop_assert_eq!(read, again);
        }

        #[test]
        fn the_order_is_that_of_numbers(
            left in -9_999_999_i64..9_999_999, right in -9_999_i64..9_999, shift in 0_u32..4,
        ) {
            let right = right * 10_i64.pow(shift);
            let (left_text, right_text) = (format!("{left}.0"), format!("{right}E0"));
            let a = Decimal::parse(&left_text).unwrap();
            let b = Decimal::parse(&right_text).unwrap();
            prop_assert_eq!(a.cmp(&b), left.cmp(&right));
        }
    }
}
