//! Dates in the forms that S3 uses: HTTP headers, XML and signatures.
//!
//! A date before 1970 is read as 1970, and a time after the year 9999 is written as that year's end: neither says
//! anything different to a condition, and both ends are far from any object.

use ashlar_types::Timestamp;
use time::{
    OffsetDateTime, PrimitiveDateTime,
    format_description::{BorrowedFormatItem, well_known::Rfc2822, well_known::Rfc3339},
    macros::{datetime, format_description},
};

type Format = &'static [BorrowedFormatItem<'static>];

const IMF_FIXDATE: Format =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
/// RFC 850 without weekday and century, which are cut off first.
const RFC_850: Format = format_description!("[day]-[month repr:short]-[year] [hour]:[minute]:[second] GMT");
const ASCTIME: Format = format_description!(
    "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
);
const ISO_8601: Format =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
const AMZ_DATE: Format = format_description!("[year][month][day]T[hour][minute][second]Z");

const LATEST: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

/// `Sun, 06 Nov 1994 08:49:37 GMT`, as in `Last-Modified` and `Date`.
pub fn format_http(time: Timestamp) -> String {
    format(time, IMF_FIXDATE)
}

/// The form of [`format_http`], the obsolete forms of RFC 9110 section 5.6.7, and RFC 2822 with any offset, which
/// some clients send.
pub fn parse_http(text: &str) -> Option<Timestamp> {
    let text = text.trim_ascii();
    if let Ok(date) = PrimitiveDateTime::parse(text, IMF_FIXDATE) {
        return Some(timestamp(date.assume_utc()));
    }
    if let Ok(date) = PrimitiveDateTime::parse(text, ASCTIME) {
        return Some(timestamp(date.assume_utc()));
    }
    if let Some(date) = rfc_850(text) {
        return Some(date);
    }
    OffsetDateTime::parse(text, &Rfc2822).ok().map(timestamp)
}

/// `2006-02-03T16:45:09.000Z`, as in XML.
pub fn format_iso(time: Timestamp) -> String {
    format(time, ISO_8601)
}

/// Any form of RFC 3339: with or without fraction, with any offset.
pub fn parse_iso(text: &str) -> Option<Timestamp> {
    OffsetDateTime::parse(text.trim_ascii(), &Rfc3339).ok().map(timestamp)
}

/// `20130524T000000Z`, as in `x-amz-date`.
pub fn format_amz(time: Timestamp) -> String {
    format(time, AMZ_DATE)
}

/// Exactly the form of [`format_amz`].
pub fn parse_amz(text: &str) -> Option<Timestamp> {
    // The parser takes signs and more digits for a year.
    if text.len() != 16 || text.bytes().filter(u8::is_ascii_digit).count() != 14 {
        return None;
    }
    PrimitiveDateTime::parse(text, AMZ_DATE).ok().map(|date| timestamp(date.assume_utc()))
}

fn rfc_850(text: &str) -> Option<Timestamp> {
    let (_weekday, rest) = text.split_once(", ")?;
    let (day_and_month, year_and_time) = rest.split_at_checked(7)?;
    let year: u32 = year_and_time.get(..2)?.parse().ok()?;
    // The rule of POSIX for two digits.
    let century = if year < 69 { "20" } else { "19" };
    let date = PrimitiveDateTime::parse(&format!("{day_and_month}{century}{year_and_time}"), RFC_850).ok()?;
    Some(timestamp(date.assume_utc()))
}

fn format(time: Timestamp, format: Format) -> String {
    let nanoseconds = i128::from(time.0) * 1_000_000;
    let date = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(LATEST).min(LATEST);
    date.format(format).expect("the format names only components of dates and times")
}

fn timestamp(date: OffsetDateTime) -> Timestamp {
    let milliseconds = (date.unix_timestamp_nanos() / 1_000_000).max(0);
    Timestamp(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RFC_EXAMPLE: Timestamp = Timestamp(784_111_777_000);

    #[test]
    fn all_http_forms_of_the_rfc_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            " Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 09:49:37 +0100",
        ] {
            assert_eq!(parse_http(text), Some(RFC_EXAMPLE), "{text}");
        }
        assert_eq!(format_http(RFC_EXAMPLE), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in [
            "",
            "Bad Date",
            "Sun, 06 Nov 1994",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 PARIS",
            "Sunday, 06-Növ-94 08:49:37 GMT",
            "Sunday, ",
        ] {
            assert_eq!(parse_http(text), None, "{text}");
        }
        for text in [
            "",
            "20130524",
            "20130524T000000",
            "20130524T000000z",
            "20131324T000000Z",
            "20130524T240000Z",
            "+2130524T000000Z",
            "20130524T000000Z ",
            "2013-05-24T00:00:00Z",
        ] {
            assert_eq!(parse_amz(text), None, "{text}");
        }
        for text in ["", "2006-02-03", "2006-02-03T16:45:09", "2006-02-30T16:45:09Z"] {
            assert_eq!(parse_iso(text), None, "{text}");
        }
    }

    #[test]
    fn xml_dates_have_milliseconds() {
        assert_eq!(format_iso(Timestamp(1_138_985_109_000)), "2006-02-03T16:45:09.000Z");
        assert_eq!(format_iso(Timestamp(1_138_985_109_007)), "2006-02-03T16:45:09.007Z");
        for text in ["2006-02-03T16:45:09Z", "2006-02-03T16:45:09.000Z", "2006-02-03T17:45:09.000+01:00"] {
            assert_eq!(parse_iso(text), Some(Timestamp(1_138_985_109_000)), "{text}");
        }
    }

    #[test]
    fn the_ends_of_time_are_clamped() {
        assert_eq!(parse_http("Tue, 07 Jul 1950 21:53:04 GMT"), Some(Timestamp(0)));
        assert_eq!(format_http(Timestamp(u64::MAX)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn every_time_round_trips(milliseconds in 0..253_402_300_799_000_u64) {
            let time = Timestamp(milliseconds);
            let seconds = Timestamp(time.seconds() * 1000);
            prop_assert_eq!(parse_http(&format_http(time)), Some(seconds));
            prop_assert_eq!(parse_amz(&format_amz(time)), Some(seconds));
            prop_assert_eq!(parse_iso(&format_iso(time)), Some(time));
        }

        #[test]
        fn no_text_brings_the_parsers_down(text in "\\PC{0,40}") {
            let _ = (parse_http(&text), parse_iso(&text), parse_amz(&text));
        }
    }
}
