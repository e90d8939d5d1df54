//! Answers, and errors as the specification writes them.

use base::{Failure, Kind};
use engine::distribution::{Code, Error, Repository, UploadId};
use hyper::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::body::Reply;
use crate::route::Refusal;

pub(crate) type Answer = Response<Reply>;

/// Docker's clients look for it.
pub(crate) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Reply::empty());
    *answer.status_mut() = status;
    answer
}

/// An answer of some bytes.
pub(crate) fn document(status: StatusCode, media_type: &str, bytes: Vec<u8>) -> Answer {
    let mut answer = empty(status);
    set(&mut answer, CONTENT_TYPE, media_type);
    *answer.body_mut() = Reply::bytes(bytes);
    answer
}

/// Sets a header. What cannot be one is left out: it comes from a manifest, say.
pub(crate) fn set(answer: &mut Answer, name: HeaderName, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        answer.headers_mut().insert(name, value);
    }
}

/// The answer of an upload that goes on.
pub(crate) fn upload(status: StatusCode, repository: &Repository, id: &UploadId, offset: u64) -> Answer {
    let mut answer = empty(status);
    set(&mut answer, LOCATION, format!("/v2/{repository}/blobs/uploads/{id}"));
    set(&mut answer, RANGE, format!("0-{}", offset.saturating_sub(1)));
    set(&mut answer, UPLOAD, id.as_str());
    if status != StatusCode::NO_CONTENT {
        set(&mut answer, CONTENT_LENGTH, "0");
    }
    answer
}

/// The specification's body of an error.
fn error_body(code: Code, message: &str) -> Vec<u8> {
    json!({ "errors": [{ "code": code.as_str(), "message": message, "detail": null }] })
        .to_string()
        .into_bytes()
}

/// A refusal as an answer.
pub(crate) fn refusal(refusal: &Refusal) -> Answer {
    let mut answer = document(refusal.status, "application/json", error_body(refusal.code, &refusal.message));
    if let Some(allow) = refusal.allow {
        set(&mut answer, ALLOW, allow);
    }
    if refusal.status == StatusCode::TOO_MANY_REQUESTS {
        set(&mut answer, RETRY_AFTER, "5");
    }
    answer
}

/// What an operation's failure is to clients. What is our own fault they need not know: it is said here.
pub(crate) fn failure(error: &Error) -> Refusal {
    let code = error.code();
    let status = match code {
        Code::NameUnknown | Code::BlobUnknown | Code::ManifestUnknown | Code::BlobUploadUnknown => {
            StatusCode::NOT_FOUND
        }
        Code::BlobUploadInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
        Code::SizeInvalid => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Denied => StatusCode::FORBIDDEN,
        Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        Code::Unknown => match error {
            Error::Upstream(e) if matches!(e.kind(), Kind::Unavailable | Kind::Corrupt) => {
                StatusCode::BAD_GATEWAY
            }
            Error::Transfer(_) => StatusCode::BAD_GATEWAY,
            e if e.kind() == Kind::Exhausted => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
        _ => StatusCode::BAD_REQUEST,
    };
    if status.is_server_error() {
        crate::run::say(&format!("error: {}", base::failure::chain(error)));
    }
    let message = match status {
        StatusCode::INTERNAL_SERVER_ERROR => "an error of the registry's own: its log tells more".to_owned(),
        StatusCode::INSUFFICIENT_STORAGE => "no space is left".to_owned(),
        StatusCode::BAD_GATEWAY => "the registry behind this one does not give what was asked for".to_owned(),
        _ => base::failure::chain(error),
    };
    Refusal::new(status, code, message)
}
