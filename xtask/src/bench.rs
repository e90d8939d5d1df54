use anyhow::Result;
pub(crate) const STOPWATCH: &str = "bench-stopwatch";
pub(crate) fn run(_: &[String]) -> Result<()> {
    Ok(())
}
pub(crate) fn stopwatch(_: &[String]) -> Result<()> {
    Ok(())
}
