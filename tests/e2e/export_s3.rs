//! An export that lies in S3, or in what serves the same two operations.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use dynaurora::engine::ports::{ReadFrom, Source};
use dynaurora::error::ErrorKind;
use dynaurora::model::Position;
use dynaurora::source::{ConnectOptions, DynamoSource, SourceOptions, connect};
use md5::{Digest, Md5};

use super::export::{Written, with_items};
use crate::world::server::Server;

/// Serves the files of a folder as the objects of the bucket `exports` under `a b/0169-a1`.
struct Bucket {
    folder: PathBuf,
    opened: AtomicU32,
    /// The status that every request gets instead.
    refusal: Mutex<Option<StatusCode>>,
}

async fn answer(
    State(bucket): State<Arc<Bucket>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let signed = headers.get(header::AUTHORIZATION).and_then(|text| text.to_str().ok());
    let signed = signed.is_some_and(|text| {
        text.starts_with("AWS4-HMAC-SHA256 ")
            && text.contains("/s3/aws4_request")
            && text.contains("x-amz-content-sha256")
    });
    let refusal = *bucket.refusal.lock().unwrap();
    if let Some(status) = refusal.or((!signed).then_some(StatusCode::FORBIDDEN)) {
        return (status, "<Error><Code>AccessDenied</Code></Error>").into_response();
    }
    let name = uri.path().strip_prefix("/exports/a%20b/0169-a1/");
    match name.and_then(|name| std::fs::read(bucket.folder.join(name)).ok()) {
        None => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>").into_response(),
        Some(_) if method == Method::HEAD => StatusCode::OK.into_response(),
        Some(bytes) => {
            bucket.opened.fetch_add(1, Ordering::Relaxed);
            let etag: String =
                Md5::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            ([(header::ETAG, format!("\"{etag}\""))], bytes).into_response()
        }
    }
}

#[tokio::test]
async fn an_export_is_read_from_s3() {
    let stage = with_items(5).await;
    let export = Written::of(&stage).await;
    let bucket = Arc::new(Bucket {
        folder: export.path().to_owned(),
        opened: AtomicU32::new(0),
        refusal: Mutex::new(None),
    });
    let server = Server::start(Router::new().fallback(answer).with_state(Arc::clone(&bucket)));
    let aws =
        ConnectOptions { endpoint: stage.config.aws.endpoint.clone(), ..ConnectOptions::default() };
    let config = connect(&aws).await.unwrap();
    let source = DynamoSource::new("NorthPole", &config, SourceOptions::default())
        .with_s3_endpoint(&config, &*server.endpoint);

    let place = "s3://exports/a b/0169-a1";
    let found = source.export(&[format!("{place}/manifest-summary.json")]).await.unwrap();
    assert_eq!(found, source.export(&[place.to_owned()]).await.unwrap());
    let mut items = 0;
    for partition in &found.partitions {
        assert!(partition.as_str().contains(place), "{partition}");
        bucket.opened.store(0, Ordering::Relaxed);
        let from = |position| ReadFrom {
            stream_arn: "".into(),
            partition: partition.clone(),
            position,
            iterator: None,
        };
        let page = source.read(&from(Position::Start)).await.unwrap();
        assert!(page.end);
        let opened = bucket.opened.load(Ordering::Relaxed);
        assert_eq!(opened, 1, "the object's tag vouches for it");
        items += page.changes.len() as u64;
        // Going on in the middle, as after a restart.
        let rest = source.read(&from(Position::Line(3))).await.unwrap();
        assert_eq!(rest.changes.len() + 3, page.changes.len());
        assert_eq!(rest.next, page.next);
    }
    assert_eq!(items, found.items);

    let missing = source.export(&["s3://exports/a b/0170-b2".to_owned()]).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Config);
    for (status, kind) in [
        (StatusCode::FORBIDDEN, ErrorKind::Denied),
        (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unavailable),
    ] {
        *bucket.refusal.lock().unwrap() = Some(status);
        assert_eq!(source.export(&[place.to_owned()]).await.unwrap_err().kind(), kind);
    }
    drop(server);
    assert_eq!(
        source.export(&[place.to_owned()]).await.unwrap_err().kind(),
        ErrorKind::Unreachable
    );
}
