//! How a long task tells how far it is, without knowing who listens.

/// A sink for progress. Calls come from several threads at once, and often: implementations must be cheap.
pub trait Progress: Send + Sync {
    /// The part `id` (a layer's short digest, say) now does `what`; `total` is its size in bytes if known.
    fn begin(&self, id: &str, what: Step, total: Option<u64>);
    /// `bytes` more of the part `id` are done.
    fn advance(&self, id: &str, bytes: u64);
    /// The part `id` is through with its current step.
    fn end(&self, id: &str, what: Step);
    /// A line of text about the whole.
    fn note(&self, text: &str);
}

/// What is being done to a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Another process does it: we wait for that.
    Wait,
    /// Bytes come over the network.
    Download,
    /// A layer is unpacked.
    Unpack,
    /// Nothing to do: it is here already.
    Exists,
    /// Images are written into an archive.
    Save,
    /// Bytes go over the network.
    Upload,
    /// Nothing to send: the registry has it, and knows now that it belongs here too.
    Mount,
    /// Nothing to send: it is there already.
    Uploaded,
    /// What is here is looked at.
    Verify,
    /// Files are copied.
    Copy,
}

/// Nobody listens.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Step, _: Option<u64>) {}
    fn advance(&self, _: &str, _: u64) {}
    fn end(&self, _: &str, _: Step) {}
    fn note(&self, _: &str) {}
}
