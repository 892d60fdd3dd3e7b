//! (room: daemon)
