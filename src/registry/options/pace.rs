//! Configured limits of a registry: numbers, and bandwidth by the time of day.

use chrono_tz::Tz;

/// Setting of one limit in `sync.yaml`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LimitSetting<T> {
    /// Not set: the limit of the profile applies.
    #[default]
    Default,
    /// No limit, even if the profile has a limit.
    Unlimited,
    /// This limit.
    Set(T),
}

/// Bandwidth limits by the time of day. Outside all windows, there is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bandwidth(pub(crate) Vec<Window>);

/// A bandwidth limit and the times of day at which the limit applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Maximum number of bytes of bodies per second. Received and sent bytes count together.
    pub rate: u64,
    /// Hours of the window; `None` is always.
    pub between: Option<Hours>,
    /// Time zone of `between`.
    pub timezone: Tz,
}

/// Interval between two times of day. The interval includes its start and excludes its end. Examples: `08:00-18:00`,
/// and `22:00-06:00` across midnight.
///
/// The times are local times in the time zone of the window. If the clock skips an hour in spring, no window contains
/// that hour. If the clock repeats an hour in autumn, the window applies twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Start, in minutes after midnight.
    pub(crate) from: u32,
    /// End, in minutes after midnight.
    pub(crate) to: u32,
}
