//! The rows of `images`.

use base::Timestamp;
use engine::ImageSummary;
use serde_json::{Value, json};

use crate::flags::filter::Filters;
use crate::format::{LABEL_MAP, Row};
use crate::human;

/// Docker's columns.
pub(super) const TABLE: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
/// … of `--digests`.
pub(super) const TABLE_WITH_DIGESTS: &str =
    "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// What heads the columns.
pub(super) const HEADERS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Containers", "CONTAINERS"),
];

const NONE: &str = "<none>";

/// What filters that name an image or a time come down to.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// `before=`: when that image was made.
    pub(super) before: Option<Timestamp>,
    /// `since=`: the same.
    pub(super) since: Option<Timestamp>,
    /// `until=`.
    pub(super) until: Option<Timestamp>,
}

/// Whether an image is wanted.
pub(super) fn matches(image: &ImageSummary, filters: &Filters, times: &Times, name: Option<&str>) -> bool {
    let (repository, tag) =
        (image.repository.as_deref().unwrap_or(NONE), image.tag.as_deref().unwrap_or(NONE));
    let named = |pattern: &str| engine::matches_reference(pattern, repository, tag);
    let dangling = image.repository.is_none();
    let made = image.created.unwrap_or(Timestamp(0));
    name.is_none_or(named)
        && filters.any("reference", named)
        && filters.any("id", |v| image.id.to_string() == v || image.id.hex().starts_with(v))
        && filters.any("dangling", |v| matches!(v, "true" | "1") == dangling)
        && filters.labels(&image.labels)
        && times.before.is_none_or(|before| made < before)
        && times.since.is_none_or(|since| made > since)
        && times.until.is_none_or(|until| made < until)
}

/// One row.
pub(super) fn row(image: &ImageSummary, now: Timestamp, cut: bool) -> Row {
    let labels: Vec<String> = image.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let row = json!({
        "Repository": image.repository.as_deref().unwrap_or(NONE),
        "Tag": image.tag.as_deref().unwrap_or(NONE),
        "Digest": image.digest.to_string(),
        "ID": if cut { image.id.hex()[..12].to_owned() } else { image.id.to_string() },
        "CreatedSince": image.created.map_or_else(|| "N/A".to_owned(), |t| human::ago(t, now)),
        "CreatedAt": image.created.map_or_else(|| "N/A".to_owned(), human::local_time),
        "Size": human::size(image.size, 3),
        "Labels": labels.join(","),
        "Containers": "N/A",
        LABEL_MAP: image.labels,
    });
    match row {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

#[cfg(test)]
mod tests {
    use base::Digest;

    use super::*;

    fn image() -> ImageSummary {
        ImageSummary {
            repository: Some("localhost:5000/a/web".into()),
            tag: Some("1".into()),
            digest: Digest::of(b"m"),
            id: Digest::of(b"c"),
            created: Some(Timestamp(0)),
            size: 7_812_345,
            references: Vec::new(),
            labels: [("x".to_owned(), "y".to_owned())].into(),
            platform: "linux/amd64".to_owned(),
            manifest: Digest::of(b"m"),
        }
    }

    #[test]
    fn the_columns_are_dockers() {
        let row = row(&image(), Timestamp(3 * 86_400 * 1_000_000_000), true);
        assert_eq!(row["Size"], "7.81MB");
        assert_eq!(row["CreatedSince"], "3 days ago");
        assert_eq!(row["ID"].as_str().unwrap().len(), 12);
    }

    #[test]
    fn names_and_filters() {
        let matches = |name: Option<&str>, filter: &[&str]| {
            let texts: Vec<String> = filter.iter().map(|t| (*t).to_owned()).collect();
            super::matches(
                &image(),
                &Filters::parse(&texts, &["reference", "label", "dangling", "id"]).unwrap(),
                &Times::default(),
                name,
            )
        };
        assert!(matches(Some("localhost:5000/a/web"), &[]) && matches(Some("localhost:5000/a/web:1"), &[]));
        assert!(!matches(Some("localhost:5000/a/web:2"), &[]) && !matches(Some("web"), &[]));
        assert!(matches(None, &["reference=localhost:5000/*/w?b", "label=x", "dangling=false"]));
        let until = Times { until: Some(Timestamp(0)), ..Times::default() };
        let since = Times { since: Some(Timestamp(-1)), before: Some(Timestamp(1)), ..Times::default() };
        assert!(!super::matches(&image(), &Filters::default(), &until, None));
        assert!(super::matches(&image(), &Filters::default(), &since, None));
        assert!(!matches(None, &["reference=*/web"]) && !matches(None, &["dangling=true"]));
    }
}
