//! Key `daemon.control`: the control socket.

use std::path::PathBuf;

use super::socket_path::check_socket_path;
use crate::config::keys::table::{ANY, Key, key};
use crate::config::model::daemon::ControlSocket;
use crate::config::reader::{Reader, Value};
use crate::config::yaml::expand::Environment;
use crate::config::yaml::node::Node;

/// File name of the default socket.
const FILE: &str = "control.sock";

pub(crate) const CONTROL_KEY: Key = key(
    "control",
    ANY,
    "Socket file by which `transship trigger`, `pause` and `resume` reach the daemon, or `off` for no socket. Only the \
     owner and the group of the file can use the socket. Default: control.sock in $RUNTIME_DIRECTORY, else in \
     $XDG_RUNTIME_DIR/transship, else off.",
    r#""/run/transship/control.sock""#,
);

/// Reads the control socket. If the reader recorded a problem, returns `None`.
pub(crate) fn read_control(reader: &Reader<'_>, value: Option<&Value<'_>>) -> Option<ControlSocket> {
    let Some(value) = value else { return Some(default_socket(reader.environment)) };
    if matches!(value.node, Node::Bool(false)) {
        reader.refuse_with_hint(value, "expected the path of a socket, found the boolean false", "write `off`");
        return None;
    }
    let path = reader.path(value, "the path of a socket")?;
    if path.as_os_str() == "off" {
        return Some(ControlSocket::Off);
    }
    reader.accept(value, check_socket_path(path.as_os_str().len()))?;
    Some(ControlSocket::At(path))
}

/// Returns the default socket. The folder is `RUNTIME_DIRECTORY` (systemd), or a folder in `XDG_RUNTIME_DIR` (XDG base
/// directory specification). If neither variable contains an absolute path, there is no socket.
fn default_socket(environment: Environment<'_>) -> ControlSocket {
    let folder = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd separates several directories by colons.
    let runtime = environment("RUNTIME_DIRECTORY").and_then(|all| all.split(':').next().map(PathBuf::from));
    let runtime = runtime.filter(|path| path.is_absolute());
    let folder = runtime.or_else(|| Some(folder("XDG_RUNTIME_DIR")?.join("transship")));
    folder.map_or(ControlSocket::Off, |folder| ControlSocket::Usual(folder.join(FILE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_socket_is_in_the_runtime_folder() {
        let place = |variables: &'static [(&'static str, &'static str)]| {
            let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
            default_socket(&value)
        };
        let usual = |path: &str| ControlSocket::Usual(path.into());
        assert_eq!(place(&[("RUNTIME_DIRECTORY", "/run/a:/run/b")]), usual("/run/a/control.sock"));
        assert_eq!(place(&[("RUNTIME_DIRECTORY", "/run/a"), ("XDG_RUNTIME_DIR", "/x")]), usual("/run/a/control.sock"));
        let session = usual("/run/user/7/transship/control.sock");
        assert_eq!(place(&[("RUNTIME_DIRECTORY", ""), ("XDG_RUNTIME_DIR", "/run/user/7")]), session);
        assert_eq!(place(&[("XDG_RUNTIME_DIR", "relative")]), ControlSocket::Off);
        assert_eq!(place(&[]), ControlSocket::Off);
    }
}
