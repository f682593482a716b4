//! Who is answered, and with what.
//!
//! | path | |
//! |---|---|
//! | `/` | the table of runs |
//! | `/run/PLACE` | one run |
//! | `/file/PLACE/FILE` | a file of a run |
//! | `/api/runs`, `/api/run/PLACE`, `/api/live/PLACE` | what the pages show, as JSON |
//! | `/assets/NAME` | what the pages are made of |

use std::{
    convert::Infallible,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{
        ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, IF_RANGE, RANGE,
        REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use tokio::task::spawn_blocking;

use super::{
    api::Api,
    body::{Body, Wanted, wanted},
    connections::Connection,
    listing::Listing,
};
use crate::{
    report::html,
    retention::Keep,
    runs::within::{Place, Within},
};

/// What the pages are made of: nothing in them is fetched from anywhere else, and nothing stands in them that would run.
const PAGES: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A report brings its scripts along. It is kept apart from the pages, as if it came from another site.
const REPORTS: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                       base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts";

/// Whatever else a run has left runs nothing.
const FILES: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

const ASSETS: [(&str, &str, &str); 7] = [
    ("report.css", "text/css; charset=utf-8", include_str!("../report/html/assets/style.css")),
    ("serve.css", "text/css; charset=utf-8", include_str!("assets/serve.css")),
    ("common.js", JAVASCRIPT, include_str!("assets/common.js")),
    ("runs.js", JAVASCRIPT, include_str!("assets/runs.js")),
    ("run.js", JAVASCRIPT, include_str!("assets/run.js")),
    ("live.js", JAVASCRIPT, include_str!("assets/live.js")),
    ("selftest.js", JAVASCRIPT, include_str!("assets/selftest.js")),
];
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What is served.
#[derive(Debug)]
pub(super) struct Site {
    within: Within,
    address: SocketAddr,
    api: Api,
    listing: Listing,
}

impl Site {
    /// The runs of a folder, to those who reach this address.
    pub(super) fn new(within: Within, address: SocketAddr, keep: Keep) -> Self {
        let listing = Listing::new(within.clone(), keep);
        Self { api: Api::new(within.clone()), listing, within, address }
    }
}

/// Why there is nothing else to say.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::not_found(),
            ErrorKind::PermissionDenied => Self(StatusCode::FORBIDDEN, "it cannot be read".to_owned()),
            _ => Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

impl Refusal {
    fn not_found() -> Self {
        Self(StatusCode::NOT_FOUND, "there is nothing of that name".to_owned())
    }
}

/// Answers a request.
pub(super) async fn answer(
    site: Arc<Site>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    connection.touch();
    let head = *request.method() == Method::HEAD;
    let asked = Asked::of(&request, site.address);
    // files are read by threads of their own: a slow disk keeps only those waiting that ask for it
    let found = match asked {
        Ok(asked) if asked.names == ["api", "runs"] => {
            site.listing.answer().await.map(|text| shown(JSON, FILES, text)).map_err(Refusal::from)
        }
        Ok(asked) => spawn_blocking(move || find(&site, &asked, connection))
            .await
            .unwrap_or_else(|error| Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))),
        Err(refusal) => Err(refusal),
    };
    let mut response = found.unwrap_or_else(|Refusal(status, words)| {
        let mut response = shown(TEXT, FILES, Bytes::from(words + "\n"));
        *response.status_mut() = status;
        if status == StatusCode::METHOD_NOT_ALLOWED {
            put(&mut response, ALLOW, "GET, HEAD");
        }
        response
    });
    let length = response.body().length();
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    if head {
        *response.body_mut() = Body::Whole(Bytes::new());
    }
    put(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(&mut response, X_FRAME_OPTIONS, "DENY");
    put(&mut response, REFERRER_POLICY, "no-referrer");
    put(&mut response, HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    put(&mut response, CACHE_CONTROL, "no-store");
    Ok(response)
}

/// What is asked for.
#[derive(Debug)]
struct Asked {
    /// The names in the path, decoded.
    names: Vec<String>,
    range: Option<String>,
}

impl Asked {
    fn of<B>(request: &Request<B>, address: SocketAddr) -> Result<Self, Refusal> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "this only reads: GET or HEAD".to_owned()));
        }
        let text = |name: HeaderName| request.headers().get(name).map(HeaderValue::to_str);
        let bad = |words: &str| Refusal(StatusCode::BAD_REQUEST, words.to_owned());
        if request.headers().get_all(HOST).iter().count() != 1 {
            return Err(bad("one Host is needed"));
        }
        let host = text(HOST).and_then(Result::ok).ok_or_else(|| bad("the Host is no text"))?;
        // in a request to a proxy the host is named twice
        let hosts =
            request.uri().authority().map(hyper::http::uri::Authority::as_str).into_iter().chain([host]);
        if address.ip().is_loopback() && !hosts.into_iter().all(names_this_machine) {
            return Err(Refusal(
                StatusCode::MISDIRECTED_REQUEST,
                format!("this answers to names of this machine only: http://{address}/"),
            ));
        }
        let path = request.uri().path().strip_prefix('/').ok_or_else(Refusal::not_found)?;
        let names =
            path.split('/').map(decoded).collect::<Option<_>>().ok_or_else(|| bad("the path is no text"))?;
        // a part of what has changed since would be of no use: then all of it is sent
        let range = text(RANGE).and_then(Result::ok).filter(|_| !request.headers().contains_key(IF_RANGE));
        Ok(Self { names, range: range.map(str::to_owned) })
    }
}

/// Whether a Host, with or without a port, can only mean this machine.
fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A name of a path without its percent signs.
fn decoded(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || (rest.next()? as char).to_digit(16);
        bytes.push(if byte == b'%' { (digit()? * 16 + digit()?) as u8 } else { byte });
    }
    String::from_utf8(bytes).ok()
}

fn find(site: &Site, asked: &Asked, connection: Arc<Connection>) -> Result<Response<Body>, Refusal> {
    let names: Vec<&str> = asked.names.iter().map(String::as_str).collect();
    let json = |text: Vec<u8>| shown(JSON, FILES, Bytes::from(text));
    match names[..] {
        [""] => Ok(shown(HTML, PAGES, Bytes::from_static(include_bytes!("assets/runs.html")))),
        ["run", ..] => {
            site.api.run_at(&place(&names[1..])?)?;
            Ok(shown(HTML, PAGES, Bytes::from_static(include_bytes!("assets/run.html"))))
        }
        ["assets", name] => {
            let asset = ASSETS.iter().find(|(of, _, _)| *of == name);
            let (_, kind, text) = asset.ok_or_else(Refusal::not_found)?;
            Ok(shown(kind, PAGES, Bytes::from_static(text.as_bytes())))
        }
        ["api", "run", ..] => Ok(json(site.api.run(&place(&names[2..])?)?)),
        ["api", "live", ..] => Ok(json(site.api.live(&place(&names[2..])?)?)),
        ["file", ..] => file(site, &place(&names[1..])?, asked.range.as_deref(), connection),
        _ => Err(Refusal::not_found()),
    }
}

fn place(names: &[&str]) -> Result<Place, Refusal> {
    let place = match names {
        // the folder itself is a run's
        [""] => Some(Place::default()),
        names => names.iter().try_fold(Place::default(), |place, name| place.join(name)),
    };
    place.ok_or_else(Refusal::not_found)
}

/// A file of a run. What is in no run's folder is nobody's business.
fn file(
    site: &Site,
    place: &Place,
    range: Option<&str>,
    connection: Arc<Connection>,
) -> Result<Response<Body>, Refusal> {
    site.api.run_above(place)?;
    let file = site.within.file(place)?;
    let length = file.metadata()?.len();
    let (kind, policy) = kind(place.name());
    let (from, to) = match wanted(range, length) {
        Wanted::All => (0, length),
        Wanted::Range(from, to) => (from, to),
        Wanted::Nothing => {
            let mut response = shown(TEXT, FILES, Bytes::from_static(b"it is not that long\n"));
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            put(&mut response, CONTENT_RANGE, &format!("bytes */{length}"));
            return Ok(response);
        }
    };
    let mut response = Response::new(Body::part(file, from, to, connection));
    put(&mut response, CONTENT_TYPE, kind);
    put(&mut response, CONTENT_SECURITY_POLICY, policy);
    put(&mut response, ACCEPT_RANGES, "bytes");
    if kind == UNKNOWN {
        put(&mut response, CONTENT_DISPOSITION, "attachment");
    }
    if matches!(wanted(range, length), Wanted::Range(..)) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        put(&mut response, CONTENT_RANGE, &format!("bytes {from}-{}/{length}", to - 1));
    }
    Ok(response)
}

const UNKNOWN: &str = "application/octet-stream";

/// What a file is, and what it may do in a browser. Only the report is a page.
fn kind(name: &str) -> (&'static str, &'static str) {
    match name.rsplit_once('.') {
        _ if name == html::FILE => (HTML, REPORTS),
        Some((_, "json")) => (JSON, FILES),
        Some((_, "jsonl" | "log" | "toml" | "txt" | "csv" | "edn" | "md" | "html")) => (TEXT, FILES),
        _ => (UNKNOWN, FILES),
    }
}

fn shown(kind: &str, policy: &str, text: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Whole(text));
    put(&mut response, CONTENT_TYPE, kind);
    put(&mut response, CONTENT_SECURITY_POLICY, policy);
    response
}

fn put(response: &mut Response<Body>, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("headers are plain text");
    response.headers_mut().insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered_to() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:1", "127.1.2.3", "[::1]:8080", "[::1]"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:8080",
            "127.0.0.1.evil.example",
            "10.0.0.1:8080",
            "[::2]",
            "[",
            "::1",
        ] {
            assert!(!names_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_path_is_decoded_once() {
        assert_eq!(decoded("a%20b%2Fc"), Some("a b/c".to_owned()));
        assert_eq!(decoded("%252e"), Some("%2e".to_owned()));
        for wrong in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
    }
}
