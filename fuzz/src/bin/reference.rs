//! Image references: any text is refused in words, or is a reference that comes back as itself from both of its
//! forms, and keeps to the grammar. Never a panic.
#![no_main]

use image::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let reference: Reference = match text.parse() {
        Ok(reference) => reference,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let short = reference.to_string();
    assert_eq!(short.parse::<Reference>().expect("its short form is one"), reference, "{short}");
    let whole = reference.canonical();
    let again: Reference = whole.parse().expect("its whole form is one");
    assert_eq!((again.registry(), again.repository()), (reference.registry(), reference.repository()));
    assert_eq!(again.canonical(), whole);
    // What becomes an address and a file's name.
    let repository = reference.repository();
    assert!(repository.len() <= 255 && whole.is_ascii());
    assert!(repository.split('/').all(|part| !part.is_empty() && !part.starts_with('.')), "{repository}");
    assert!(reference.tag().is_none_or(|tag| tag.len() <= 128));
    assert!(reference.tag().is_some() || reference.digest().is_some());
});
