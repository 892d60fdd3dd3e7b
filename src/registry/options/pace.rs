//! Settings of the limits of a registry: figures, and bandwidth by the time of day.

use chrono_tz::Tz;

/// Setting of one figure in `sync.yaml`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LimitSetting<T> {
    /// Not set: the figure of the profile applies.
    #[default]
    Default,
    /// No limit, even if the profile has a figure.
    Unlimited,
    /// This figure.
    Set(T),
}

/// Rates and the times of day at which they apply. Outside all windows there is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bandwidth(pub(crate) Vec<Window>);

/// A rate and the times at which it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Bytes per second of bodies, in both directions together.
    pub rate: u64,
    /// Hours of the window; `None` is always.
    pub between: Option<Hours>,
    /// Time zone of `between`.
    pub timezone: Tz,
}

/// Interval from one time of day to another, without the end. Examples: `08:00-18:00`, and `22:00-06:00` across
/// midnight.
///
/// The times are wall-clock times. If the clock skips an hour in spring, no window contains that hour. If the clock
/// repeats an hour in autumn, the window applies twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Start, in minutes after midnight.
    pub(crate) from: u32,
    /// End, in minutes after midnight.
    pub(crate) to: u32,
}
