//! Check of the length of a socket path.

/// Maximum length of a socket path on Linux, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Checks that a socket path of `length` bytes is not too long.
pub(crate) fn check_socket_path(length: usize) -> Result<(), String> {
    if length > MAX_SOCKET_PATH {
        return Err(format!("the path of the socket has {length} bytes, and at most {MAX_SOCKET_PATH} are allowed"));
    }
    Ok(())
}
