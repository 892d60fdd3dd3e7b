//! Case `bulk-listing`: many tags in one repository. The servers of this case only list tags. The list contains
//! digests, as Google's registries return.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Map, json};
use tokio_util::sync::DropGuard;

use super::DISTANT;
use crate::Bench;
use crate::corpus::{Corpus, MANIFEST, Manifest, Repository, digest_of};
use crate::meter::{Meter, Setup};
use crate::report::{Figure, Report};
use crate::stage::Run;
use crate::tools::{Job, Tool};

/// Maximum number of tags on one page.
const PAGE: usize = 1000;
const NAME: &str = "bulk/repository";

pub(super) fn bulk(bench: &Bench) -> anyhow::Result<Report> {
    let corpus = repository(10_000);
    let tags = corpus.repositories[0].tags.clone();
    let (source, _source) = bench.wait(serve(&corpus))?;
    let (target, _target) = bench.wait(serve(&corpus))?;
    let setup = Setup { round_trip: DISTANT, ..Setup::default() };
    let meters = [Meter::start(source, setup.clone())?, Meter::start(target, setup)?];
    let folder = tempfile::tempdir()?;
    let mut report = Report::new("bulk-listing");
    // Round 0 is not measured. In round 0, the journal records the checks of referrers.
    for round in 0..=bench.options.rounds {
        meters.iter().for_each(|meter| drop(meter.take()));
        let usage = Tool::Transship.run(&Job {
            source: meters[0].host(),
            targets: vec![meters[1].host()],
            corpus: &corpus,
            concurrent: bench.options.concurrent,
            folder: folder.path(),
            ca: None,
        })?;
        let (source, targets) = (meters[0].take(), vec![meters[1].take()]);
        let run = Run {
            tool: "transship".into(),
            round,
            usage,
            registries_cpu: Duration::ZERO,
            meters_cpu: Duration::ZERO,
            source,
            targets,
            missing: Vec::new(),
        };
        crate::report::progress(&run);
        if round > 0 {
            report.runs.push(run);
        }
    }
    // If the last page is full, transship requests one more page, because a proxy may have removed the `Link` header.
    let pages = (tags.len() / PAGE + 1) as f64;
    report.figures = vec![
        Figure::count("requests at the source", report.median("transship", |run| run.source.total() as f64), pages),
        Figure::count("requests at the target", report.median("transship", |run| run.targets[0].total() as f64), pages),
    ];
    Ok(report)
}

fn repository(tags: usize) -> Corpus {
    let mut repository =
        Repository { name: NAME.into(), blobs: Default::default(), manifests: Vec::new(), tags: Default::default() };
    for tag in 0..tags {
        let (tag, bytes) = (format!("1.{tag}.0"), format!("{{\"schemaVersion\":2,\"of\":\"{tag}\"}}"));
        let digest = digest_of(bytes.as_bytes());
        let manifest =
            Manifest { digest: digest.clone(), media_type: MANIFEST.into(), needs: Vec::new(), bytes: bytes.into() };
        repository.manifests.push(manifest);
        repository.tags.insert(tag, digest);
    }
    Corpus { blobs: Default::default(), repositories: vec![repository] }
}

type Tags = Arc<Vec<(String, String)>>;

#[derive(serde::Deserialize)]
struct ListQuery {
    n: Option<usize>,
    last: Option<String>,
}

async fn serve(corpus: &Corpus) -> anyhow::Result<(SocketAddr, DropGuard)> {
    let mut tags: Vec<(String, String)> = corpus.repositories[0].tags.clone().into_iter().collect();
    tags.sort();
    let router = Router::new()
        .route(&format!("/v2/{NAME}/tags/list"), get(list))
        .route(&format!("/v2/{NAME}/manifests/{{reference}}"), get(manifest))
        .with_state(Arc::new(tags));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
    Ok((address, stop.drop_guard()))
}

async fn list(State(tags): State<Tags>, Query(query): Query<ListQuery>) -> Response {
    let first = query.last.map_or(0, |last| tags.partition_point(|(tag, _)| *tag <= last));
    let size = query.n.unwrap_or(PAGE).clamp(1, PAGE);
    let page: Vec<&(String, String)> = tags.iter().skip(first).take(size).collect();
    let mut manifest = Map::new();
    for (tag, digest) in &page {
        let about = json!({
            "imageSizeBytes": "4096", "layerId": "", "mediaType": MANIFEST, "tag": [tag],
            "timeCreatedMs": "1700000000000", "timeUploadedMs": "1700000000000",
        });
        manifest.insert(digest.clone(), about);
    }
    let names: Vec<&str> = page.iter().map(|(tag, _)| tag.as_str()).collect();
    let body = json!({"name": NAME, "child": [], "tags": names, "manifest": manifest}).to_string();
    let mut answer = ([(CONTENT_TYPE, "application/json")], body).into_response();
    if let Some((last, _)) = page.last().filter(|_| first + size < tags.len()) {
        let link = format!("</v2/{NAME}/tags/list?n={size}&last={last}>; rel=\"next\"");
        if let Ok(link) = link.parse() {
            answer.headers_mut().insert("link", link);
        }
    }
    answer
}

/// Responds to a HEAD request for a tag.
async fn manifest(State(tags): State<Tags>, axum::extract::Path(tag): axum::extract::Path<String>) -> Response {
    match tags.binary_search_by(|(known, _)| known.cmp(&tag)) {
        Ok(at) => {
            ([("docker-content-digest", tags[at].1.clone()), ("content-type", MANIFEST.to_owned())], "").into_response()
        }
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
