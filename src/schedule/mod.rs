//! (room: schedule)
