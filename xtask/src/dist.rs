//! Release packaging: one archive with everything that a server needs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Result,
    build::Build,
    files::copy,
    process::{output, root, run},
};

/// Files and folders of the workspace that are packed unchanged.
const ALONG: [&str; 5] = ["deploy", "README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// Packs a release that has been built; returns the path of the archive.
pub(crate) fn pack(build: &Build) -> Result<PathBuf> {
    let name = format!("tidings-{}-{}", env!("CARGO_PKG_VERSION"), host()?);
    let dist = build.config.target.join("dist");
    // Keep one version only.
    let _ = fs::remove_dir_all(&dist);
    let folder = dist.join(&name);
    copy(&build.site(), &folder.join("site"))?;
    for file in ALONG {
        copy(&root().join(file), &folder.join(file))?;
    }
    let server = folder.join("tidings");
    copy(&build.server(), &server)?;
    // Not in the profile: the built executable keeps its symbols, for profilers.
    run(
        Command::new("strip").arg(&server),
        "the server cannot be stripped; strip comes with the C compiler's binutils",
    )?;

    write_manual(&server, &folder)?;

    let archive = format!("{name}.tar.gz");
    tar(&dist, &name, &archive)?;
    let sum = output(Command::new("sha256sum").arg(&archive).current_dir(&dist))
        .ok_or("the archive has no checksum: sha256sum cannot be run")?;
    let sum_file = dist.join(format!("{archive}.sha256"));
    fs::write(&sum_file, &sum).map_err(|error| format!("{}: {error}", sum_file.display()))?;
    fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    print!("{sum}");
    Ok(dist.join(archive))
}

/// Writes the manual pages and the completions, which the executable prints.
fn write_manual(server: &Path, folder: &Path) -> Result<()> {
    let mut man = Command::new(server);
    run(man.arg("man").arg(folder.join("man")), "the manual pages cannot be written")?;
    let completions = folder.join("completions");
    fs::create_dir(&completions).map_err(|error| format!("{}: {error}", completions.display()))?;
    for (shell, name) in [("bash", "tidings"), ("zsh", "_tidings"), ("fish", "tidings.fish")] {
        let script = output(Command::new(server).args(["completions", shell]))
            .ok_or_else(|| format!("there are no completions for {shell}"))?;
        let file = completions.join(name);
        fs::write(&file, script).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

/// Reproducible archive: the same files give the same bytes, on any machine and at any time.
fn tar(dist: &Path, folder: &str, archive: &str) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.current_dir(dist).args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.args(["--format=ustar", "--mode=u+rwX,go+rX,go-w", "--use-compress-program=gzip -9n"]);
    if let Some(time) = time() {
        tar.arg(format!("--mtime=@{time}"));
    }
    run(tar.args(["--create", "--file", archive, folder]), "packing needs GNU tar and gzip")
}

/// The modification time of the packed files: that of the commit, or `SOURCE_DATE_EPOCH`
/// (<https://reproducible-builds.org/specs/source-date-epoch/>).
fn time() -> Option<String> {
    let commit = || {
        let mut git = Command::new("git");
        output(git.args(["log", "-1", "--format=%ct"]).current_dir(root()))
    };
    let time = env::var("SOURCE_DATE_EPOCH").ok().or_else(commit)?;
    Some(time.trim().to_owned())
}

/// The host triple, which is also the target.
fn host() -> Result<String> {
    output(Command::new("rustc").arg("-vV"))
        .and_then(|said| {
            Some(said.lines().find_map(|line| line.strip_prefix("host: "))?.to_owned())
        })
        .ok_or_else(|| "rustc -vV prints no host".to_owned())
}
