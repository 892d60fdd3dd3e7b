//! Parser of the five fields of a POSIX cron expression. The parser returns the set of values of a field.

use std::collections::BTreeSet;

/// Field of a cron expression: its name, its minimum and maximum value, and the names of its values.
pub(super) struct Field {
    pub(super) name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
    /// Value of the first name in `names`, such as 1 for `jan`.
    first_named: u32,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Names of the weekdays 0 to 6. The value 7 is also Sunday.
pub(super) const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const fn numeric(name: &'static str, first: u32, last: u32) -> Field {
    Field { name, first, last, names: &[], first_named: 0 }
}

/// All fields, in the order of the expression.
pub(super) const FIELDS: [Field; 5] = [
    numeric("minute", 0, 59),
    numeric("hour", 0, 23),
    numeric("day of month", 1, 31),
    Field { name: "month", first: 1, last: 12, names: &MONTHS, first_named: 1 },
    Field { name: "day of week", first: 0, last: 7, names: &WEEKDAYS, first_named: 0 },
];

impl Field {
    /// Parses a list such as `1,5-10/2,*/3` into its values. An error contains the mistake and the remedy.
    pub(super) fn parse(&self, text: &str) -> Result<BTreeSet<u32>, String> {
        let mut values = BTreeSet::new();
        for item in text.split(',') {
            values.extend(self.parse_item(item)?);
        }
        Ok(values)
    }

    fn parse_item(&self, item: &str) -> Result<impl Iterator<Item = u32> + use<>, String> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(parse_step(item, step)?)),
            None => (item, None),
        };
        let (from, to) = match (range, range.split_once('-')) {
            // Excludes 7, because 0 is already Sunday.
            ("*", _) => (self.first, if self.last == 7 { 6 } else { self.last }),
            (_, Some((from, to))) => (self.parse_value(item, from)?, self.parse_value(item, to)?),
            (_, None) => {
                let value = self.parse_value(item, range)?;
                if let Some(step) = step {
                    return Err(format!("`{item}` has a step without a range: write `{value}-{}/{step}`", self.last));
                }
                (value, value)
            }
        };
        if from > to {
            return Err(format!("`{item}` is a descending range: write `{from}-{},{}-{to}`", self.last, self.first));
        }
        Ok((from..=to).step_by(step.unwrap_or(1)))
    }

    fn parse_value(&self, item: &str, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        if let Some((value, _)) = (self.first_named..).zip(self.names).find(|(_, name)| **name == lower) {
            return Ok(value);
        }
        let number = Some(text).filter(|text| text.bytes().all(|b| b.is_ascii_digit())).and_then(|t| t.parse().ok());
        match number {
            Some(value) if (self.first..=self.last).contains(&value) => Ok(value),
            Some(_) => Err(format!("`{text}` is out of range: expected {}", self.describe_expected())),
            None if text == "?" => Err("`?` is not supported: write `*`".into()),
            None => Err(format!(
                "`{item}` is not a valid value: expected {}, `*`, `a-b`, `*/n` or a list",
                self.describe_expected()
            )),
        }
    }

    fn describe_expected(&self) -> String {
        let Self { first, last, .. } = self;
        match self.names {
            [begin, .., end] => format!("{first} to {last} or {begin} to {end}"),
            _ => format!("{first} to {last}"),
        }
    }
}

fn parse_step(item: &str, step: &str) -> Result<usize, String> {
    let number = Some(step).filter(|step| step.bytes().all(|b| b.is_ascii_digit())).and_then(|s| s.parse().ok());
    number
        .filter(|step| *step > 0)
        .ok_or_else(|| format!("`{item}` has no valid step: expected a number above 0 after `/`"))
}
