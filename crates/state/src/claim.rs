//! Claims: a file per name that is taken, made with `O_EXCL`, so that the file system settles every race.

use std::path::{Path, PathBuf};

use base::fs::{self, At};

/// Claims `name` in the directory `dir` for `owner`. `Ok(false)` if it is taken.
pub fn take(dir: &Path, name: &str, owner: &str) -> fs::Result<bool> {
    // Written first and linked second: whoever sees the claim sees its owner, also after a crash.
    let path = dir.join(name);
    let temporary: PathBuf = dir.join(format!(".{owner}.{name}"));
    if let Err(error) = std::fs::write(&temporary, owner).at("write", &temporary) {
        // Where the disk is full there may be a file nevertheless, an empty one.
        fs::remove_file(&temporary).ok();
        return Err(error);
    }
    let linked = std::fs::hard_link(&temporary, &path);
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e).at("claim", &path),
    }
}

/// Who holds `name`, if anybody does.
pub fn owner(dir: &Path, name: &str) -> fs::Result<Option<String>> {
    let content = fs::read_if_exists(&dir.join(name))?;
    Ok(content.map(|c| String::from_utf8_lossy(&c).into_owned()))
}

/// Releases `name` if `owner` holds it.
pub fn release(dir: &Path, name: &str, owner: &str) -> fs::Result<()> {
    if self::owner(dir, name)?.as_deref() == Some(owner) {
        fs::remove_file(&dir.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_claimants_wins() {
        let dir = std::env::temp_dir().join(format!("dhow-claim-{}", std::process::id()));
        fs::create_dir_all(&dir, 0o700).unwrap();
        let wins: usize = std::thread::scope(|s| {
            let threads: Vec<_> = (0..8)
                .map(|i| {
                    s.spawn({
                        let dir = &dir;
                        move || take(dir, "n", &format!("o{i}")).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|t| usize::from(t.join().unwrap())).sum()
        });
        assert_eq!(wins, 1);
        let holder = owner(&dir, "n").unwrap().unwrap();
        release(&dir, "n", "somebody else").unwrap();
        assert_eq!(owner(&dir, "n").unwrap().as_deref(), Some(&*holder));
        release(&dir, "n", &holder).unwrap();
        assert_eq!(owner(&dir, "n").unwrap(), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
