//! Formatting dates and times.
//!
//! Before hydration times are in UTC, so that server and browser render the same; afterwards they are in
//! the reader's time zone. The calendar arithmetic is implemented here because a time library would be
//! larger than the rest of the page.

/// Milliseconds in a day.
const DAY_MS: u64 = 86_400_000;

/// The time of day, `hh:mm:ss`, at `millis` since the Unix epoch.
pub fn time_of_day(millis: u64) -> String {
    let seconds = millis % DAY_MS / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The day at `millis` since the Unix epoch, in days since the epoch.
pub fn day(millis: u64) -> u64 {
    millis / DAY_MS
}

/// A day since the Unix epoch as a date for readers: `23 November 2026`.
pub fn day_in_words(days: u64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let (year, month, day) = date(days);
    let month = MONTHS.get(usize::try_from(month - 1).unwrap_or_default()).unwrap_or(&MONTHS[0]);
    format!("{day} {month} {year}")
}

/// A day since the Unix epoch in the format of `<time datetime>`: `2026-11-23`.
pub fn day_as_datetime(days: u64) -> String {
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A time in milliseconds since the Unix epoch, in the format of `<time datetime>`, in UTC:
/// `2025-11-23T08:53:54.567Z`.
pub fn datetime(millis: u64) -> String {
    let date = day_as_datetime(day(millis));
    format!("{date}T{}.{:03}Z", time_of_day(millis), millis % 1000)
}

/// Converts UTC to the reader's time zone: milliseconds that, formatted as UTC, give the local time. Only
/// in a browser.
pub fn in_readers_zone(millis: u64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "a JavaScript time is a double")]
    let date = js_sys::Date::new(&(millis as f64).into());
    #[expect(clippy::cast_possible_truncation, reason = "an offset is at most a day, in minutes")]
    let minutes_behind_utc = date.get_timezone_offset() as i64;
    millis.saturating_add_signed(-minutes_behind_utc * 60_000)
}

/// Year, month and day of a day since the Unix epoch: Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>), for days that are not negative.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_for_the_datetime_attribute() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_763_891_234_567, "2025-11-23T09:47:14.567Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(datetime(millis), text);
        }
    }

    #[test]
    fn days_are_formatted_in_words() {
        for (millis, words) in [
            (0, "1 January 1970"),
            (951_782_400_000, "29 February 2000"),
            (1_795_391_999_999, "22 November 2026"),
            (1_795_392_000_000, "23 November 2026"),
            (1_798_675_200_000, "31 December 2026"),
        ] {
            assert_eq!(day_in_words(day(millis)), words);
        }
    }

    #[test]
    fn the_latest_time_can_be_formatted() {
        assert!(datetime(u64::MAX).ends_with("51.615Z"));
    }
}
