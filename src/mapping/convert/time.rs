//! Dates and times, in strict forms only, so that no value depends on when or where it is read.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

use super::loss::Loss;
use super::number::Decimal;
use crate::mapping::definition::EpochUnit;

/// Appends `YYYY-MM-DD`.
pub(super) fn date(text: &str, out: &mut String) -> Result<(), Loss> {
    let mut scan = Scan(text.as_bytes());
    let date = scan.date().filter(|_| scan.0.is_empty());
    let date = date.ok_or_else(|| Loss::format("not a date of the form YYYY-MM-DD"))?;
    print(out, date);
    Ok(())
}

/// Appends `HH:MM:SS[.ffffff]`.
pub(super) fn time(text: &str, out: &mut String) -> Result<(), Loss> {
    let mut scan = Scan(text.as_bytes());
    let time = scan.time()?.filter(|_| scan.0.is_empty());
    let time = time.ok_or_else(|| Loss::format("not a time of the form HH:MM:SS"))?;
    print(out, time);
    Ok(())
}

/// Appends the instant in UTC as ISO 8601, from a text with an offset.
pub(super) fn timestamp(text: &str, out: &mut String) -> Result<(), Loss> {
    let mut scan = Scan(text.as_bytes());
    let form = || Loss::format("not a time with an offset, as 2026-12-01T08:00:00Z or …+01:00");
    let date = scan.date().ok_or_else(form)?;
    if !scan.skip(b"Tt ") {
        return Err(form());
    }
    let time = scan.time()?.ok_or_else(form)?;
    let offset = scan.offset().filter(|_| scan.0.is_empty()).ok_or_else(form)?;
    let instant = offset
        .to_timestamp(DateTime::from_parts(date, time))
        .map_err(|_| Loss::range("the time is out of range"))?;
    instant_text(instant, out)
}

/// Appends the instant of a number that counts from 1970-01-01 UTC.
pub(super) fn epoch(number: Decimal<'_>, unit: EpochUnit, out: &mut String) -> Result<(), Loss> {
    let micros = number.shifted(unit.micros_exponent());
    if micros.scale() > 0 {
        return Err(Loss::range("the time is finer than a microsecond"));
    }
    let micros = micros.integer().and_then(|micros| i64::try_from(micros).ok());
    let instant = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok());
    instant_text(instant.ok_or_else(|| Loss::range("the time is out of range"))?, out)
}

fn instant_text(instant: Timestamp, out: &mut String) -> Result<(), Loss> {
    // Postgres reads years before 1 only with an era, and they are surely mistakes.
    if Offset::UTC.to_datetime(instant).year() < 1 {
        return Err(Loss::range("the time is before the year 1"));
    }
    print(out, instant);
    Ok(())
}

fn print(out: &mut String, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("writing to a string cannot fail");
}

/// The remaining text.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    /// Takes one byte if it is one of these.
    fn skip(&mut self, any: &[u8]) -> bool {
        match self.0 {
            [first, rest @ ..] if any.contains(first) => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// Takes exactly this many digits.
    fn number(&mut self, digits: usize) -> Option<i16> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        if !number.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        Some(number.iter().fold(0, |value, digit| value * 10 + i16::from(digit - b'0')))
    }

    fn two(&mut self) -> Option<i8> {
        self.number(2).and_then(|number| i8::try_from(number).ok())
    }

    fn date(&mut self) -> Option<Date> {
        let year = self.number(4).filter(|year| *year >= 1)?;
        let month = self.skip(b"-").then(|| self.two())??;
        let day = self.skip(b"-").then(|| self.two())??;
        Date::new(year, month, day).ok()
    }

    /// `HH:MM[:SS[.f…]]`; `Ok(None)` if it is not a time, a loss if it is finer than Postgres keeps.
    fn time(&mut self) -> Result<Option<Time>, Loss> {
        let Some(hour) = self.two() else { return Ok(None) };
        let Some(minute) = self.skip(b":").then(|| self.two()).flatten() else { return Ok(None) };
        let mut second = 0;
        let mut nanos = 0;
        if self.skip(b":") {
            let Some(seconds) = self.two() else { return Ok(None) };
            second = seconds;
            if self.skip(b".,") {
                let Some(fraction) = self.fraction()? else { return Ok(None) };
                nanos = fraction;
            }
        }
        Ok(Time::new(hour, minute, second, nanos).ok())
    }

    /// The digits after a decimal point, in nanoseconds.
    fn fraction(&mut self) -> Result<Option<i32>, Loss> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, rest) = self.0.split_at(digits);
        if fraction.is_empty() {
            return Ok(None);
        }
        if fraction.iter().skip(6).any(|digit| *digit != b'0') {
            return Err(Loss::range("the time is finer than a microsecond"));
        }
        self.0 = rest;
        let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
        Ok(Some(digits.fold(0, |value, digit| value * 10 + i32::from(digit - b'0'))))
    }

    /// `Z`, `+HH`, `+HHMM` or `+HH:MM`.
    fn offset(&mut self) -> Option<Offset> {
        if self.skip(b"Zz") {
            return Some(Offset::UTC);
        }
        let sign = match self.0.first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.0 = self.0.get(1..)?;
        let hours = self.two().filter(|hours| *hours < 24)?;
        let minutes = if self.0.is_empty() {
            0
        } else {
            self.skip(b":");
            self.two().filter(|minutes| *minutes < 60)?
        };
        Offset::from_seconds(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RejectReason;

    fn instant(text: &str) -> Result<String, RejectReason> {
        let mut out = String::new();
        timestamp(text, &mut out).map(|()| out).map_err(|loss| loss.reason)
    }

    fn counted(text: &str, unit: EpochUnit) -> Result<String, RejectReason> {
        let mut out = String::new();
        epoch(Decimal::parse(text).unwrap(), unit, &mut out)
            .map(|()| out)
            .map_err(|loss| loss.reason)
    }

    #[test]
    fn an_instant_has_one_text_whatever_its_offset() {
        for text in [
            "2026-12-01T08:00:00Z",
            "2026-12-01t08:00z",
            "2026-12-01 09:00:00.000000000+01:00",
            "2026-12-01T02:30:00-0530",
            "2026-12-01T10:00:00+02",
        ] {
            assert_eq!(instant(text).as_deref(), Ok("2026-12-01T08:00:00Z"), "{text}");
        }
        assert_eq!(instant("2026-12-01T08:00:00.120Z").as_deref(), Ok("2026-12-01T08:00:00.12Z"));
    }

    #[test]
    fn words_and_bare_times_are_no_instants() {
        for text in [
            "now",
            "today",
            "epoch",
            "infinity",
            "-infinity",
            "",
            "2026-12-01",
            "2026-12-01T08:00:00",
            "2026-13-01T08:00:00Z",
            "2026-02-30T08:00:00Z",
            "2026-12-01T24:00:00Z",
            "2026-12-01T08:00:60Z",
            "2026-12-01T08:00:00Z ",
            "2026-12-01T08:00:00[UTC]",
            "0000-01-01T00:00:00Z",
            "1764576000",
        ] {
            assert_eq!(instant(text), Err(RejectReason::Format), "{text}");
        }
        assert_eq!(instant("2026-12-01T08:00:00.1234567Z"), Err(RejectReason::Range));
        assert_eq!(instant("9999-12-31T23:59:59-12:00"), Err(RejectReason::Range));
    }

    #[test]
    fn numbers_need_their_unit_and_lose_nothing() {
        let expected = Ok("2026-12-01T08:00:00Z".to_owned());
        assert_eq!(counted("1796112000", EpochUnit::Seconds), expected);
        assert_eq!(counted("1.796112E12", EpochUnit::Millis), expected);
        assert_eq!(counted("1796112000000000", EpochUnit::Micros), expected);
        assert_eq!(counted("1796112000000000000", EpochUnit::Nanos), expected);
        let fraction = counted("1796112000.25", EpochUnit::Seconds);
        assert_eq!(fraction.as_deref(), Ok("2026-12-01T08:00:00.25Z"));
        assert_eq!(counted("1796112000000000001", EpochUnit::Nanos), Err(RejectReason::Range));
        assert_eq!(counted("1796112000000000000", EpochUnit::Seconds), Err(RejectReason::Range));
        assert_eq!(counted("-1.5", EpochUnit::Seconds).as_deref(), Ok("1969-12-31T23:59:58.5Z"));
    }

    #[test]
    fn dates_and_times_are_strict() {
        let mut out = String::new();
        date("2024-02-29", &mut out).unwrap();
        assert_eq!(out, "2024-02-29");
        for text in ["2023-02-29", "2024-2-9", "20240229", "tomorrow", "2024-02-29T00:00:00Z"] {
            assert!(date(text, &mut String::new()).is_err(), "{text}");
        }
        let mut out = String::new();
        time("08:05:00.500", &mut out).unwrap();
        assert_eq!(out, "08:05:00.5");
        for text in ["8:05", "24:00:00", "08:05:61", "now", "08:05:00Z"] {
            assert!(time(text, &mut String::new()).is_err(), "{text}");
        }
    }
}
