//! What the tests share: servers, programs, images.
