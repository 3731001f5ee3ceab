use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::config::features::FeatureGates;

/// A member that is as it is told to be.
#[derive(Default)]
struct Fake {
    alarms: Vec<String>,
    no_leader: bool,
    learner: bool,
    local_error: Option<&'static str>,
    cluster_error: Option<&'static str>,
    hangs: bool,
}

impl MemberHealth for Fake {
    async fn read(&self, serializable: bool) -> Result<(), String> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let error = if serializable {
            self.local_error
        } else {
            self.cluster_error
        };
        error.map_or(Ok(()), |error| Err(error.to_owned()))
    }

    fn alarms(&self) -> Vec<String> {
        self.alarms.clone()
    }

    fn has_leader(&self) -> bool {
        !self.no_leader
    }

    fn is_learner(&self) -> bool {
        self.learner
    }

    fn cluster_version(&self) -> Option<String> {
        Some("3.7.0".to_owned())
    }

    fn storage_version(&self) -> Option<String> {
        None
    }
}

fn service(fake: Fake) -> HttpService<Fake> {
    HttpService {
        member: Arc::new(fake),
        metrics: Arc::new(Metrics::new(false, &FeatureGates::default())),
        request_timeout: Duration::from_millis(10),
    }
}

fn open_access() -> Access {
    Access {
        hosts: Arc::new(BTreeSet::from(["*".to_owned()])),
        origins: Arc::new(BTreeSet::from(["*".to_owned()])),
        secure: false,
    }
}

async fn ask(router: Router, request: Request<Body>) -> (u16, http::HeaderMap, String) {
    let response = router.oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    (parts.status.as_u16(), parts.headers, text)
}

async fn get(fake: Fake, path: &str) -> (u16, String) {
    let router = service(fake).client_router(open_access(), Router::new());
    let request = Request::get(path)
        .header(header::HOST, "localhost:2379")
        .body(Body::empty());
    let (status, _, body) = ask(router, request.expect("a request")).await;
    (status, body)
}

#[tokio::test]
async fn health_says_what_is_wrong_in_order() {
    let ok = r#"{"health":"true","reason":""}"#.to_owned();
    assert_eq!(get(Fake::default(), "/health").await, (200, ok.clone()));
    let bad = |reason: &str| {
        (
            503,
            format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"),
        )
    };
    let alarmed = |name: &str| Fake {
        alarms: vec![name.to_owned()],
        no_leader: true,
        ..Fake::default()
    };
    assert_eq!(
        get(alarmed("NOSPACE"), "/health").await,
        bad("ALARM NOSPACE")
    );
    assert_eq!(
        get(alarmed("CORRUPT"), "/health").await,
        bad("ALARM CORRUPT")
    );
    assert_eq!(get(alarmed("OTHER"), "/health").await, bad("ALARM UNKNOWN"));
    assert_eq!(
        get(alarmed("NOSPACE"), "/health?exclude=NOSPACE").await,
        bad("RAFT NO LEADER")
    );
    assert_eq!(
        get(
            alarmed("NOSPACE"),
            "/health?exclude=NOSPACE&serializable=true"
        )
        .await,
        (200, ok)
    );
    let failing = Fake {
        cluster_error: Some("etcdserver: leader changed"),
        ..Fake::default()
    };
    assert_eq!(
        get(failing, "/health").await,
        bad("RANGE ERROR:etcdserver: leader changed")
    );
    let hanging = Fake {
        hangs: true,
        ..Fake::default()
    };
    assert_eq!(
        get(hanging, "/health").await,
        bad("RANGE ERROR:etcdserver: request timed out")
    );
}

#[tokio::test]
async fn probes_check_what_they_should() {
    assert_eq!(
        get(Fake::default(), "/livez").await,
        (200, "ok\n".to_owned())
    );
    assert_eq!(
        get(Fake::default(), "/readyz?verbose").await,
        (200, "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n".to_owned())
    );
    let troubled = || Fake {
        alarms: vec!["NOSPACE".to_owned()],
        learner: true,
        cluster_error: Some("no quorum"),
        ..Fake::default()
    };
    assert_eq!(get(troubled(), "/livez").await.0, 200);
    assert_eq!(
        get(troubled(), "/readyz").await,
        (503, "[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: no quorum\n[-]non_learner failed: not supported for learner\n\n".to_owned())
    );
    assert_eq!(
        get(
            troubled(),
            "/readyz?exclude=linearizable_read&exclude=non_learner&exclude=nonsense"
        )
        .await,
        (200, "ok\n".to_owned())
    );
    assert_eq!(get(troubled(), "/readyz/non_learner").await.0, 503);
    assert_eq!(
        get(troubled(), "/readyz/serializable_read?verbose").await,
        (200, "[+]serializable_read ok\nok\n".to_owned())
    );
    assert_eq!(
        get(Fake::default(), "/livez/nonsense").await,
        (404, "404 page not found\n".to_owned())
    );
    let corrupt = Fake {
        alarms: vec!["CORRUPT".to_owned()],
        ..Fake::default()
    };
    assert_eq!(
        get(corrupt, "/readyz/data_corruption").await,
        (
            503,
            "[-]data_corruption failed: alarm activated: CORRUPT\n\n".to_owned()
        )
    );
}

#[tokio::test]
async fn version_names_all_three() {
    let want = r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"unknown"}"#.to_owned();
    assert_eq!(get(Fake::default(), "/version").await, (200, want));
}

#[tokio::test]
async fn other_methods_are_refused_with_what_is_allowed() {
    for path in ["/health", "/livez", "/readyz", "/version", "/debug/vars"] {
        let router = service(Fake::default()).client_router(open_access(), Router::new());
        let request = Request::post(path).body(Body::empty()).expect("a request");
        let (status, headers, body) = ask(router, request).await;
        assert_eq!(
            (status, body.as_str()),
            (405, "Method Not Allowed\n"),
            "{path}"
        );
        assert_eq!(headers[header::ALLOW], "GET");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}

#[tokio::test]
async fn strange_hosts_are_misdirected_unless_there_is_tls() {
    for (secure, want) in [(false, 421), (true, 200)] {
        let access = Access {
            hosts: Arc::new(BTreeSet::from(["good".to_owned()])),
            secure,
            ..open_access()
        };
        for (host, want) in [("good:2379", 200), ("evil", want)] {
            let router = service(Fake::default()).client_router(access.clone(), Router::new());
            let request = Request::get("/health")
                .header(header::HOST, host)
                .body(Body::empty());
            let (status, _, body) = ask(router, request.expect("a request")).await;
            assert_eq!(status, want, "{host} {secure}");
            assert_eq!(body.contains("--host-whitelist \"evil\""), status == 421);
        }
    }
}

#[tokio::test]
async fn pages_may_call_from_allowed_origins() {
    let access = Access {
        origins: Arc::new(BTreeSet::from(["http://good:80".to_owned()])),
        ..open_access()
    };
    for (origin, allowed) in [("http://good:80", true), ("http://evil:80", false)] {
        let router = service(Fake::default()).client_router(access.clone(), Router::new());
        let request = Request::options("/health")
            .header(header::ORIGIN, origin)
            .body(Body::empty());
        let (status, headers, body) = ask(router, request.expect("a request")).await;
        assert_eq!((status, body.as_str()), (200, ""));
        let granted = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_some();
        assert_eq!(granted, allowed, "{origin}");
    }
}

#[tokio::test]
async fn a_metrics_listener_has_health_and_metrics_only() {
    let paths = [
        ("/metrics", 200),
        ("/health", 200),
        ("/livez", 200),
        ("/version", 404),
        ("/", 404),
    ];
    for (path, want) in paths {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let (status, _, _) = ask(service(Fake::default()).metrics_router(), request).await;
        assert_eq!(status, want, "{path}");
    }
}
