//! Certificates that somebody else keeps: read at the start, judged, and read again when their files
//! change. By their content, so that it makes no difference whether they are written in place, renamed
//! or mounted over.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use chassis::Fatal;
use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;

use crate::certs::board::Source;
use crate::certs::folder;
use crate::certs::leaf::Leaf;
use crate::certs::sites::Mode;
use crate::certs::sites::Site;
use crate::certs::source::Outlet;
use crate::edge::certificates::covers;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// How long before its end a certificate that nobody renewed is warned about.
const SOON: time::Duration = time::Duration::days(14);

/// What was in both files, without keeping the key: a digest, or the reason why they are not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Digest([u8; 32]),
    Unreadable(String),
}

/// The certificate of `site`, whose files are `chain` and `key`, and what was in them.
type Read = (Seen, Result<Leaf, String>);

/// Reads and judges. Blocks.
fn read(site: &Site, chain: &Path, key: &Path, provider: &CryptoProvider) -> Read {
    let now = OffsetDateTime::now_utc();
    for path in [chain, key] {
        // A pipe would be waited for.
        let refused = match std::fs::metadata(path) {
            Ok(found) if found.is_file() => continue,
            Ok(_) => "it is no file".to_owned(),
            Err(error) => error.to_string(),
        };
        let why = format!("{}: {refused}", path.display());
        return (Seen::Unreadable(why.clone()), Err(why));
    }
    let pems = match folder::pair(chain, key) {
        Ok(Some(Ok(pems))) => pems,
        Ok(Some(Err(unfit))) => {
            return (Seen::Unreadable(unfit.to_string()), Err(unfit.to_string()));
        }
        Ok(None) => {
            let why = format!("{} is missing", chain.display());
            return (Seen::Unreadable(why.clone()), Err(why));
        }
        Err(error) => {
            let why = format!("{} or {}: {error}", chain.display(), key.display());
            return (Seen::Unreadable(why.clone()), Err(why));
        }
    };
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(pems.certificate.len() as u64).to_be_bytes());
    context.update(pems.certificate.as_bytes());
    context.update(pems.key.as_bytes());
    let mut seen = [0; 32];
    seen.copy_from_slice(context.finish().as_ref());
    let leaf = Leaf::read(&pems, provider, now).map_err(|unfit| unfit.to_string());
    (Seen::Digest(seen), leaf.and_then(|leaf| fit(leaf, &site.names)))
}

/// Whether a certificate is for all that it is to be used for.
fn fit(leaf: Leaf, names: &[String]) -> Result<Leaf, String> {
    let uncovered = |name: &&String| !leaf.names.contains(name) && !covers(&leaf.names, name);
    match names.iter().find(uncovered) {
        None => Ok(leaf),
        Some(name) => {
            let found = leaf.names.join(" ");
            Err(format!("the certificate is for {found}, not for {name}"))
        }
    }
}

/// The same, with the site and its files named in the error.
fn told(site: &Site, chain: &Path, why: &str) -> String {
    format!("site {}: the certificate in {}: {why}", site.name, chain.display())
}

/// The certificate of a site in files. Blocks.
///
/// # Errors
///
/// What is wrong with them: a key that is not the certificate's, another name, an end that is past.
pub fn load(
    site: &Site,
    chain: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<(Seen, Leaf), Fatal> {
    let (seen, leaf) = read(site, chain, key, provider);
    let leaf = leaf.map_err(|why| Fatal::new("sites", told(site, chain, &why)))?;
    Ok((seen, leaf))
}

/// Judges the files of all sites that have some. Blocks.
///
/// # Errors
///
/// What is wrong with the first that is not good.
pub fn check(sites: &[Site]) -> Result<(), Fatal> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    sites.iter().try_for_each(|site| match &site.mode {
        Mode::Files { chain, key } => load(site, chain, key, &provider).map(drop),
        _ => Ok(()),
    })
}

/// Looks at the files of `site` every second, and serves what is in them when that changed and is
/// good. What is not good is told once, and what was served before stays.
pub async fn watch(
    site: Site,
    first: (Seen, Leaf),
    outlet: Arc<Outlet>,
    provider: Arc<CryptoProvider>,
) {
    let Mode::Files { chain, key } = site.mode.clone() else { return };
    let (mut served, mut leaf) = first;
    let mut before = served.clone();
    let mut warned = None;
    loop {
        warn(&site, &chain, &leaf, &mut warned);
        tokio::time::sleep(LOOK).await;
        let (again, provider) = (site.clone(), Arc::clone(&provider));
        let (from, of) = (chain.clone(), key.clone());
        let looked = tokio::task::spawn_blocking(move || read(&again, &from, &of, &provider));
        let Ok((seen, judged)) = looked.await else { continue };
        // Of a pair that is being written one is seen before the other: judged is what stays.
        let settled = seen == before;
        let new = seen != served;
        before = seen.clone();
        if !settled || !new {
            if !new {
                outlet.board.note(&site.name, |status| status.last_error = None);
            }
            continue;
        }
        match judged {
            Ok(next) => {
                log::info!(not_after:% = next.not_after; "new files for site {}", site.name);
                outlet.publish(&site, Source::Files, &next);
                (served, leaf, warned) = (seen, next, None);
            }
            Err(why) => {
                let why = told(&site, &chain, &why);
                outlet.board.note(&site.name, |status| {
                    if status.last_error.as_ref() != Some(&why) {
                        let not_after = leaf.not_after;
                        log::error!("{why}; the one in use stays, and ends {not_after}");
                        status.last_error = Some(why);
                    }
                });
            }
        }
    }
}

/// Tells once when the end is near, and once when it is there.
fn warn(site: &Site, chain: &Path, leaf: &Leaf, warned: &mut Option<bool>) {
    let left = leaf.not_after - OffsetDateTime::now_utc();
    let ended = left.is_negative();
    if left > SOON || *warned == Some(ended) {
        return;
    }
    *warned = Some(ended);
    let word = if ended { "ended" } else { "ends" };
    let (name, chain) = (&site.name, chain.display());
    log::warn!("the certificate of site {name} {word} {}: renew {chain}", leaf.not_after);
}
