//! Tests of the daemon: life cycle, schedule, journal, control socket, push events, logs.

mod control;
mod day;
mod journal;
mod life_cycle;
mod logs;
mod main_loop;
mod push_events;
mod schedule;
mod soak;
