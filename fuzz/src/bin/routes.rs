//! The registry's routes: a method, a path, a query and the two headers that are parsed become a route and ranges, or a
//! refusal in words. Never a panic; and no name that comes out leads anywhere but to one file in one directory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serve::range::{self, Wanted};
use serve::route::Route;

const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"];

/// A name is parts of letters, digits and separators, none of which is a way up.
fn is_harmless(name: &str) {
    assert!(!name.is_empty() && name.len() <= 255, "{name:?}");
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b)), "{name:?}");
    assert!(name.split('/').all(|part| !part.is_empty() && !part.starts_with('.')), "{name:?}");
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let mut lines = text.splitn(4, '\n');
    let path = lines.next().unwrap_or_default();
    let (query, piece, part) = (lines.next(), lines.next().unwrap_or_default(), lines.next());
    let size = u64::from(*first) << (first % 57);
    if let Wanted::Part(begin, end) = range::of_download(part, size) {
        assert!(begin <= end && end < size, "{begin}-{end} of {size}");
    }
    if let Some((begin, end)) = range::of_piece(piece) {
        assert!(begin <= end && end < u64::MAX);
    }
    match Route::parse(METHODS[usize::from(*first) % METHODS.len()], path, query) {
        Err(refusal) => assert!(refusal.status.is_client_error() && !refusal.message.is_empty()),
        Ok(Route::Version) => {}
        Ok(Route::Catalog(window)) => assert!(window.most <= 10_000),
        Ok(Route::Tags(repository, window)) => {
            assert!(window.most <= 10_000);
            is_harmless(repository.as_str());
        }
        Ok(
            Route::Manifest(repository, name)
            | Route::PutManifest(repository, name)
            | Route::DeleteManifest(repository, name),
        ) => {
            is_harmless(repository.as_str());
            is_harmless(&name.to_string());
        }
        Ok(Route::Mount(repository, _, from)) => {
            is_harmless(repository.as_str());
            if let Some(from) = from {
                is_harmless(from.as_str());
            }
        }
        Ok(
            Route::Blob(repository, _)
            | Route::DeleteBlob(repository, _)
            | Route::Referrers(repository, _, _)
            | Route::BeginUpload(repository)
            | Route::UploadAtOnce(repository, _),
        ) => is_harmless(repository.as_str()),
        Ok(
            Route::UploadStatus(repository, id)
            | Route::Append(repository, id)
            | Route::Finish(repository, id, _)
            | Route::Cancel(repository, id),
        ) => {
            is_harmless(repository.as_str());
            is_harmless(id.as_str());
        }
    }
});
