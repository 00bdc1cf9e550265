//! The images of containers: found in the store or brought there, once for a revision.

use crate::error::{Error, Kind, Result};
use crate::image::bundle::{self, Wanted};
use crate::image::fetch::For;
use crate::image::reference::Reference;
use crate::image::registry::LoginSecret;
use crate::image::store::{Image, Named, Store};
use crate::image::{fetch, healthcheck, rootfs, volume};
use crate::log;
use crate::plan::overlay;
use crate::supervisor::core::desired::Desired;
use crate::supervisor::core::exit::ImageError;
use crate::supervisor::core::probes;
use crate::supervisor::core::spec::{ContainerSource, ImageFacts, ImageSource, PullPolicy};
use crate::workload::health_check::HealthCheck;
use crate::workload::kept::KeptKind;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Where images come from.
pub struct Images {
    root: PathBuf,
}

/// Why there is no image.
#[derive(Debug)]
pub struct Trouble {
    pub reason: ImageError,
    pub error: Error,
}

/// An image as a bundle.
#[derive(Debug)]
pub struct Prepared {
    /// A directory with an empty root file system.
    pub dir: PathBuf,
    pub config: String,
    /// The annotation of the layers.
    pub annotation: (String, String),
    /// Source of the owner and the permissions of the root.
    pub like: PathBuf,
    /// Topmost first.
    pub layers: Vec<PathBuf>,
    /// Where the image declares volumes.
    pub volumes: Vec<String>,
    pub entrypoint: Vec<String>,
    pub facts: ImageFacts,
}

/// Access for pulling an image besides the credentials of this host.
#[derive(Debug, Clone, Default)]
pub struct Access {
    pub secrets: Vec<LoginSecret>,
    /// Why secrets are missing. It is not an error by itself: the registry may need none.
    pub lacks: Vec<String>,
}

/// The pins of all revisions at one time, and what has come since: a new workload may be running before it is asked who uses what.
#[derive(Debug, Default)]
pub struct Used {
    pub pins: HashSet<String>,
    /// The last identity of a workload that was given out.
    pub last_workload: u64,
    /// The last revision of each workload.
    pub last_revisions: HashMap<u64, u32>,
}

impl Used {
    /// Whether the pin may still be in use.
    fn has(&self, pin: &str) -> bool {
        let mut parts = pin.split('.');
        let mut number = || parts.next().and_then(|p| p.parse::<u64>().ok());
        let newer = match (number(), number()) {
            (Some(workload), Some(revision)) => {
                let last = self.last_revisions.get(&workload);
                workload > self.last_workload || last.is_some_and(|last| revision > u64::from(*last))
            }
            _ => false,
        };
        newer || self.pins.contains(pin)
    }
}

/// Says what happens to people: whether it is pulled now or was, and the message.
pub type Tell<'a> = &'a dyn Fn(bool, String);

impl Images {
    pub fn new(root: PathBuf) -> Images {
        Images { root }
    }

    /// The image of a container. `pin` names the container of the revision; with it, a name is resolved once.
    ///
    /// # Errors
    /// The reason, for the status, and the error.
    pub fn ready(
        &self,
        source: &ImageSource,
        pin: Option<&str>,
        access: &Access,
        cancelled: &AtomicBool,
        tell: Tell,
    ) -> Result<Image, Trouble> {
        let pull = |error| Trouble { reason: ImageError::ErrImagePull, error };
        let name = Reference::parse(&source.name)
            .map_err(|error| Trouble { reason: ImageError::InvalidImageName, error })?;
        let store = Store::open(&self.root).map_err(pull)?;
        // An image that is found stays until its pin is written.
        let _adding = store.adding().map_err(pull)?;
        let names = store.names().map_err(pull)?;
        let pinned = pin.and_then(|pin| names.pins.get(pin)).map(|n| n.digest.clone());
        let known = pinned.clone().or_else(|| source.digest.clone());
        let full = name.to_string();
        let local = !matches!(name, Reference::Registry(_));
        let digest = known.clone().or_else(|| match source.policy {
            PullPolicy::Always => None,
            // A file of this host may have changed, and is cheap to check.
            PullPolicy::IfNotPresent if local => None,
            PullPolicy::IfNotPresent | PullPolicy::Never => names.names.get(&full).map(|n| n.digest.clone()),
        });
        let image = match &digest {
            Some(digest) => store.image(digest).map_err(pull)?,
            None => None,
        };
        let image = match image {
            Some(image) => image,
            None if source.policy == PullPolicy::Never => {
                let what = format!("image {full:?} is not on this host, and imagePullPolicy is Never");
                let error = Error::new(Kind::NotFound, what)
                    .hint(format!("run \"orund image pull {}\"", source.name));
                return Err(Trouble { reason: ImageError::ErrImageNeverPull, error });
            }
            None => {
                let whom = if pin.is_some() { For::Workload } else { For::Person };
                let brought = Bring { store: &store, full: &full, known: known.as_deref(), whom, access };
                brought.bring(cancelled, tell).map_err(pull)?
            }
        };
        if let (Some(pin), None) = (pin, pinned) {
            let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let named = Named { digest: image.digest.clone(), image: full, at, ..Named::default() };
            store.change_names(|n| n.pins.insert(pin.to_owned(), named.clone()).is_none()).map_err(pull)?;
        }
        Ok(image)
    }

    /// The bundle of all containers that have an image.
    pub fn bundle(&self) -> PathBuf {
        self.root.join("bundle")
    }

    /// Removes what no workload, no name and no process has needed for as long as `age`.
    pub fn collect(&self, age: Duration) {
        if !self.root.exists() {
            return;
        }
        match Store::open(&self.root).and_then(|store| store.collect(age)) {
            Ok(swept) => {
                for name in &swept.names {
                    log::debug(|| format!("removed the unused image {name:?}"));
                }
                swept.failed.into_iter().for_each(log::warn);
            }
            Err(e) => log::warn(e.context("removing unused images")),
        }
    }

    /// Forgets what containers of revisions that are gone were resolved to.
    pub fn retain(&self, used: &Used) -> Result<()> {
        if !self.root.exists() {
            return Ok(());
        }
        let store = Store::open(&self.root)?;
        store.change_names(|n| {
            let before = n.pins.len();
            n.pins.retain(|pin, _| used.has(pin));
            n.pins.len() != before
        })
    }
}

/// An image that the store does not have.
struct Bring<'a> {
    store: &'a Store,
    full: &'a str,
    /// The digest that it has to have.
    known: Option<&'a str>,
    whom: For,
    access: &'a Access,
}

impl Bring<'_> {
    fn bring(&self, cancelled: &AtomicBool, tell: Tell) -> Result<Image> {
        let Bring { store, full, known, whom, access } = *self;
        let begun = std::time::Instant::now();
        tell(true, format!("pulling image {full:?}"));
        let of = |e: Error| {
            let lacks = access.lacks.iter().fold(e, |e, lack| e.context(lack.clone()));
            lacks.context(format!("image {full:?}"))
        };
        let program = super::program();
        let from = known.and_then(|known| by_digest(full, known)).unwrap_or_else(|| full.to_owned());
        let stop = || cancelled.load(Ordering::Relaxed);
        let fetched = fetch::fetch(&program, store, &from, whom, &access.secrets, &stop).map_err(of)?;
        if let Some(known) = known.filter(|k| **k != fetched.digest) {
            let what =
                format!("image {full:?} now has the digest {}; this revision uses {known}", fetched.digest);
            return Err(Error::new(Kind::State, what).hint("orund rollout restart resolves the name again"));
        }
        let image = store.image(&fetched.digest)?;
        let image =
            image.ok_or_else(|| Error::new(Kind::State, format!("image {full:?} has been removed")))?;
        tell(
            false,
            format!("pulled image {full:?} ({}) in {:.1} s", image.digest, begun.elapsed().as_secs_f64()),
        );
        Ok(image)
    }
}

/// The name by which the registry has the image with that digest whatever its tag has become; none for what is not of a registry.
fn by_digest(full: &str, known: &str) -> Option<String> {
    match Reference::parse(full).ok()? {
        Reference::Registry(remote) => Some(format!("{}/{}@{known}", remote.registry, remote.repository)),
        Reference::OciLayout { .. }
        | Reference::OciArchive { .. }
        | Reference::DockerArchive { .. }
        | Reference::Bundle { .. } => None,
    }
}

/// The annotation that makes the layers of the image a root file system.
pub fn layers(image: &Image) -> (String, String) {
    let layers: Vec<String> = image.layers.iter().map(|l| l.to_string_lossy().into_owned()).collect();
    (overlay::LOWER.to_owned(), overlay::join(layers.iter().map(String::as_str)))
}

/// Ports of an image that are shown, and the longest of them: each container keeps them.
const MOST_PORTS: usize = 64;
const LONGEST_PORT: usize = 32;

/// Facts from the image of a container besides its configuration. `check` is the setting of the file for the image's health
/// check; `None`: the check is not used.
fn facts(image: &Image, name: &str, check: Option<&HealthCheck>) -> ImageFacts {
    let own = &image.configuration.config;
    let declared = check.and_then(|check| match healthcheck::read(own) {
        Ok(declared) => Some(check.over(&declared?)),
        Err(why) => {
            // As Docker does: the image runs all the same.
            log::warn(format!("image {name:?}: its HEALTHCHECK is ignored: {why}"));
            None
        }
    });
    let ports = own.exposed_ports.keys().filter(|p| p.len() <= LONGEST_PORT).take(MOST_PORTS);
    ImageFacts {
        probes: declared.as_ref().and_then(probes::of_health_check),
        ports: ports.cloned().collect(),
    }
}

/// The configuration of a container of `image`; `user` is instead of the image's, `check` as in [`facts`].
///
/// # Errors
/// The image names no program, or a user that it does not have.
pub fn prepare(
    image: &Image,
    bundle: PathBuf,
    source: &ImageSource,
    user: Option<&str>,
    check: Option<&HealthCheck>,
) -> Result<Prepared> {
    let command = Some(source.command.as_slice()).filter(|c| !c.is_empty());
    let wanted = Wanted { command, args: source.args.as_deref(), user, ..Wanted::default() };
    let configuration = &image.configuration;
    let ids = rootfs::ids(image, bundle::user(configuration, &wanted))?;
    let of_image = |e: Error| e.context(format!("image {:?}", source.name));
    let config: Value = bundle::config(configuration, &wanted, &ids).map_err(of_image)?;
    Ok(Prepared {
        dir: bundle,
        config: config.to_string(),
        annotation: layers(image),
        like: image.root.clone(),
        layers: image.layers.clone(),
        volumes: volume::declared(configuration).map_err(of_image)?,
        entrypoint: configuration.config.entrypoint.clone(),
        facts: facts(image, &source.name, check),
    })
}

/// Access for pulling the image of a container: the current data of its secrets.
pub fn access(desired: &Desired, launch: &ContainerSource) -> Access {
    let mut access = Access::default();
    for name in launch.image.iter().flat_map(|i| &i.pull_secrets) {
        let Some(secret) = desired.objects.get(KeptKind::Secret, name) else {
            access.lacks.push(format!("secret {name:?} of imagePullSecrets not found"));
            continue;
        };
        let mut data = secret.object.data();
        let found = [(".dockerconfigjson", false), (".dockercfg", true)];
        match found.into_iter().find_map(|(key, legacy)| Some((data.remove(key)?, legacy))) {
            Some((text, legacy)) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                access.secrets.push(LoginSecret { name: name.clone(), legacy, text });
            }
            None => access.lacks.push(format!(
                "secret {name:?} of imagePullSecrets has neither .dockerconfigjson nor .dockercfg"
            )),
        }
    }
    access
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_revision_was_resolved_to_is_asked_for_by_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let by = |name: &str| by_digest(&Reference::parse(name).unwrap().to_string(), &digest);
        assert_eq!(by("nginx:1.27"), Some(format!("docker.io/library/nginx@{digest}")));
        assert_eq!(by("localhost:5000/a/b"), Some(format!("localhost:5000/a/b@{digest}")));
        assert_eq!(by("oci:/images/a:1"), None);
        assert_eq!(by("docker-archive:/a.tar"), None);
    }

    #[test]
    fn an_old_list_of_revisions_forgets_no_newer_ones() {
        let used = Used {
            pins: HashSet::from(["3.2.0".to_owned()]),
            last_workload: 5,
            last_revisions: HashMap::from([(3, 2)]),
        };
        for pin in ["3.2.0", "3.3.0", "6.1.0"] {
            assert!(used.has(pin), "{pin}");
        }
        // Another revision, another container, a workload that was deleted, and what is not a pin.
        for pin in ["3.1.0", "3.2.1", "5.1.0", "", "x.y.z"] {
            assert!(!used.has(pin), "{pin}");
        }
    }
}
