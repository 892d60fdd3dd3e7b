//! Tests that an edit between the read of a configuration and the first iteration of the loop is not lost.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::daemon::{Control, Setup, serve};
use crate::journal::Journal;
use crate::status::{Metrics, Snapshot};

#[tokio::test]
async fn edit_before_the_first_iteration_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sync.yaml");
    let environment = |_: &str| Some("/nowhere".to_owned());
    let entry =
        |name: &str| format!("  - {{name: {name}, source: \"oci-layout:/a\", target: \"oci-layout:/{name}\"}}\n");
    std::fs::write(&path, format!("version: 1\nsync:\n{}", entry("first"))).unwrap();
    let content = config::content(&path, &environment).map(|(digest, _)| digest);
    let config = config::load(&path, &environment).unwrap();
    std::fs::write(&path, format!("version: 1\nsync:\n{}{}", entry("first"), entry("second"))).unwrap();

    let (snapshots, mut snapshot) = watch::channel(Arc::new(Snapshot::starting(Utc::now())));
    let shutdown = CancellationToken::new();
    let (_reloading, reload) = mpsc::channel(1);
    let setup = Setup {
        path,
        content,
        in_force: watch::channel(Arc::new(config.clone())).0,
        config,
        journal: Journal::open(&folder.path().join("journal.db")).unwrap(),
        environment: Box::new(environment),
        snapshots,
        metrics: Arc::new(Metrics::new("0", Utc::now())),
        reload,
        commands: Control::new().1,
        shutdown: shutdown.clone(),
    };
    let edited = async {
        let applied = snapshot.wait_for(|snapshot| snapshot.entries.iter().any(|entry| entry.name == "second"));
        // This limit is below the 30 seconds after which the daemon reads the file without an event.
        tokio::time::timeout(Duration::from_secs(20), applied).await.expect("the edit is applied").unwrap();
        shutdown.cancel();
    };
    let (served, ()) = tokio::join!(serve(setup), edited);
    served.unwrap();
}
