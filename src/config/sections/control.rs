//! Section `daemon.control`: the socket on which the daemon accepts requests.

use std::path::PathBuf;

use crate::config::decode::{MAX_SOCKET_PATH, path};
use crate::config::reader::{Reader, Value};
use crate::config::yaml::node::Node;
use crate::config::{ControlSocket, Environment};

/// File name of the socket in the runtime folder of a program.
const FILE: &str = "control.sock";

pub(crate) fn control(reader: &Reader<'_>, value: Option<&Value<'_>>) -> Option<ControlSocket> {
    let Some(value) = value else { return Some(usual(reader.environment)) };
    if matches!(value.node, Node::Bool(false)) {
        reader.wrong_with_hint(value, "expected the path of a socket, found the boolean false", "write off");
        return None;
    }
    let path = path(reader, value, "the path of a socket")?;
    if path.as_os_str() == "off" {
        return Some(ControlSocket::Off);
    }
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        reader.wrong(value, format!("the path of the socket has {length} bytes: {MAX_SOCKET_PATH} at most"));
        return None;
    }
    Some(ControlSocket::At(path))
}

/// Returns the default socket: in the folder that systemd names, otherwise in the folder of the XDG base directory
/// specification, otherwise none. No other folder belongs to this user alone and is removed with the session or at
/// shutdown.
fn usual(environment: Environment<'_>) -> ControlSocket {
    let folder = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd separates several runtime directories by colons.
    let runtime = environment("RUNTIME_DIRECTORY").and_then(|all| all.split(':').next().map(PathBuf::from));
    let runtime = runtime.filter(|path| path.is_absolute());
    let folder = runtime.or_else(|| Some(folder("XDG_RUNTIME_DIR")?.join("transship")));
    folder.map_or(ControlSocket::Off, |folder| ControlSocket::Usual(folder.join(FILE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_place_is_where_systemd_says_else_the_session_else_nowhere() {
        let place = |variables: &'static [(&'static str, &'static str)]| {
            let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
            usual(&value)
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
