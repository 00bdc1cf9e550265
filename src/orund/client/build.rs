//! `apply --build`: the images of a Compose project are made by the builder that is installed, and loaded into the store.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::args::{Builder, Building};
use crate::error::{Error, Kind, Result};
use crate::orund::places;
use crate::supervisor::shell::program;
use crate::workload::model::PullPolicy;
use crate::workload::{BUILD, Build, Object, Workload, is_remote_context};

/// Characters of an image's digest that make its tag: as many as builders show.
const SHORT: usize = 12;

/// The build section of each workload, if it has one.
fn builds(objects: &[Object]) -> impl Iterator<Item = (&Workload, Build)> {
    objects.iter().filter_map(|o| match o {
        Object::Workload { workload, .. } => {
            let text = workload.metadata.annotations.get(BUILD)?;
            Some((&**workload, serde_json::from_str(text).ok()?))
        }
        Object::Kept(_) | Object::Inert { .. } => None,
    })
}

/// Without `--build`: refuses what has no image that could be pulled.
///
/// # Errors
/// A workload is to be built.
pub fn check(objects: &[Object]) -> Result<()> {
    let found: Vec<String> =
        builds(objects).filter(|(_, b)| !b.named).map(|(w, _)| w.metadata.name.clone()).collect();
    if found.is_empty() {
        return Ok(());
    }
    let what = format!("these services have no image and must be built: {}", found.join(", "));
    Err(Error::new(Kind::Config, what)
        .hint("`orund apply --build` builds them with buildah, podman or docker; or build them, and write `image: NAME`"))
}

/// Builds all images and names them in the workloads, by their digest: a changed one is a rollout.
///
/// # Errors
/// No builder is installed; a build fails; the image cannot be loaded.
pub fn run(objects: &mut [Object], a: &Building) -> Result<()> {
    let todo: Vec<(String, Build)> = builds(objects).map(|(w, b)| (w.metadata.name.clone(), b)).collect();
    if todo.is_empty() {
        return Ok(());
    }
    let builder = Program::find(a.builder)?;
    let store = &places::images(a.image_dir.as_ref())?;
    for (name, build) in todo {
        let image = builder
            .make(&build, store)
            .map_err(|e| e.context(format!("building the image of service {name:?}")))?;
        let of = |o: &mut Object| match o {
            Object::Workload { workload, .. } if workload.metadata.name == name => {
                if let Some(c) = workload.spec.containers.first_mut() {
                    c.image = Some(image.clone());
                    c.image_pull_policy = Some(PullPolicy::Never);
                }
            }
            Object::Workload { .. } | Object::Kept(_) | Object::Inert { .. } => {}
        };
        objects.iter_mut().for_each(of);
    }
    Ok(())
}

/// A builder.
struct Program {
    kind: Builder,
    path: PathBuf,
}

impl Program {
    fn find(wanted: Option<Builder>) -> Result<Program> {
        let all = [Builder::Buildah, Builder::Podman, Builder::Docker];
        let candidates = wanted.map_or(all.to_vec(), |w| vec![w]);
        let dirs: Vec<PathBuf> =
            std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
        for kind in candidates {
            if let Some(path) = dirs.iter().map(|d| d.join(kind.name())).find(|p| p.is_file()) {
                return Ok(Program { kind, path });
            }
        }
        let what = match wanted {
            Some(kind) => format!("{} is not installed", kind.name()),
            None => "no builder is installed".to_owned(),
        };
        Err(Error::new(Kind::NotFound, what).hint("install buildah, podman or docker"))
    }

    /// Builds an image and loads it into the store; its name.
    fn make(&self, b: &Build, store: &Path) -> Result<String> {
        let dir = Scratch::new()?;
        let (id_file, archive) = (dir.0.join("id"), dir.0.join("image.tar"));
        let mut command = Command::new(&self.path);
        command.arg("build").arg("--iidfile").arg(&id_file).args(flags(b));
        match (&b.dockerfile_inline, &b.dockerfile) {
            (Some(text), _) => {
                let file = dir.0.join("Dockerfile");
                std::fs::write(&file, text).map_err(|e| Error::sys(format!("writing {file:?}"), e))?;
                command.arg("-f").arg(file);
            }
            (None, Some(name)) if !is_remote_context(&b.context) => {
                command.arg("-f").arg(Path::new(&b.context).join(name));
            }
            (None, Some(name)) => {
                command.args(["-f", name]);
            }
            (None, None) => {}
        }
        run_builder(command.arg(&b.context))?;
        let id =
            std::fs::read_to_string(&id_file).map_err(|e| Error::sys(format!("reading {id_file:?}"), e))?;
        let id = id.trim();
        let digits = id.strip_prefix("sha256:").unwrap_or(id);
        let name = format!("{}:{}", b.repository, digits.get(..SHORT).unwrap_or(digits));
        match self.kind {
            Builder::Buildah => {
                let to = format!("docker-archive:{}:{name}", archive.display());
                run_builder(Command::new(&self.path).args(["push", id]).arg(to))?;
            }
            Builder::Podman | Builder::Docker => {
                run_builder(Command::new(&self.path).args(["tag", id, &name]))?;
                run_builder(Command::new(&self.path).arg("save").arg("-o").arg(&archive).arg(&name))?;
            }
        }
        // An ordinary user's layers have files of others: the verb makes the namespace for that.
        let mut load = Command::new(program());
        load.args(["image", "load", "--name", &name, "--input"]).arg(&archive).arg("--dir").arg(store);
        run_builder(&mut load)?;
        Ok(name)
    }
}

/// The flags that all builders have.
fn flags(b: &Build) -> Vec<String> {
    let mut flags = Vec::new();
    for arg in &b.args {
        flags.extend(["--build-arg".to_owned(), arg.clone()]);
    }
    for label in &b.labels {
        flags.extend(["--label".to_owned(), label.clone()]);
    }
    if let Some(target) = &b.target {
        flags.extend(["--target".to_owned(), target.clone()]);
    }
    flags.extend(b.no_cache.then(|| "--no-cache".to_owned()));
    flags.extend(b.pull.then(|| "--pull".to_owned()));
    flags
}

/// Runs a step of the builder; what it prints goes to standard error.
fn run_builder(command: &mut Command) -> Result<()> {
    let stderr = std::io::stderr();
    let out = std::os::fd::AsFd::as_fd(&stderr).try_clone_to_owned();
    let out = out.map_or_else(|_| Stdio::null(), Stdio::from);
    let status = command.stdin(Stdio::null()).stdout(out).status();
    let shown = format!("{command:?}");
    let status = status.map_err(|e| Error::sys(format!("running {shown}"), e))?;
    match status.success() {
        true => Ok(()),
        false => {
            Err(Error::new(Kind::Program, format!("{shown} failed: {status}")).hint("its output is above"))
        }
    }
}

/// A directory for archives, which is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = std::env::temp_dir().join(format!("orund-build-{}", std::process::id()));
        // Left by a killed process with this number; a file of another user is neither followed nor used.
        let _ = std::fs::remove_dir_all(&dir);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|e| Error::sys(format!("making {dir:?}"), e))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind, it is below /tmp.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Builder {
    fn name(self) -> &'static str {
        match self {
            Builder::Buildah => "buildah",
            Builder::Podman => "podman",
            Builder::Docker => "docker",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_told_what_the_file_says() {
        let b = Build {
            args: vec!["A=1".into(), "B".into()],
            target: Some("final".into()),
            no_cache: true,
            ..Build::default()
        };
        assert_eq!(flags(&b), ["--build-arg", "A=1", "--build-arg", "B", "--target", "final", "--no-cache"]);
    }
}
