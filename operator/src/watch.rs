//! Watches the API server and tells the owner of the world what changed.
//!
//! In: watch streams of our eight kinds, of the pods that we made and of the nodes. Out: [`Change`]s on one
//! bounded channel. Effects: reads only. Never: one object that our types cannot read stops the others.

mod guard;
mod kind;

use std::collections::BTreeSet;
use std::time::Duration;

use filstar_core::world::{Id, World};
use filstar_crds::{
    ChainMessage, GasPolicy, Miner, PostBatch, SealingGroup, SealingNode, Sector, SectorStore,
    labels,
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource as _};
use tokio::sync::mpsc;

pub use guard::Guarded;
pub use kind::Kind;

/// Objects in one page of a listing: bounds what a start needs in memory.
const PAGE: u32 = 100;

/// HTTP's number for what is not there.
const NOT_FOUND: u16 = 404;

/// One change of the world.
pub type Change = Box<dyn FnOnce(&mut World) -> bool + Send>;

/// What watchers and pollers say to the owner of the world.
pub enum Event {
    /// Something changed; applying it tells whether the world did.
    Change(Change),
    /// The first listing of a kind, by plural, is complete.
    Synced(&'static str),
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Change(_) => f.write_str("Change"),
            Self::Synced(plural) => write!(f, "Synced({plural})"),
        }
    }
}

/// Plurals of all kinds that are watched.
pub const PLURALS: [&str; 11] = [
    Miner::PLURAL,
    SealingGroup::PLURAL,
    GasPolicy::PLURAL,
    SectorStore::PLURAL,
    PostBatch::PLURAL,
    SealingNode::PLURAL,
    Sector::PLURAL,
    ChainMessage::PLURAL,
    Pod::PLURAL,
    PodDisruptionBudget::PLURAL,
    Node::PLURAL,
];

/// Starts one watcher for each kind. They end when the receiver is gone.
pub fn start(client: &Client, events: &mpsc::Sender<Event>) {
    spawn::<Miner>(client, events);
    spawn::<SealingGroup>(client, events);
    spawn::<GasPolicy>(client, events);
    spawn::<SectorStore>(client, events);
    spawn::<PostBatch>(client, events);
    spawn::<SealingNode>(client, events);
    spawn::<Sector>(client, events);
    spawn::<ChainMessage>(client, events);
    spawn::<Pod>(client, events);
    spawn::<PodDisruptionBudget>(client, events);
    spawn::<Node>(client, events);
}

fn spawn<K: Kind>(client: &Client, events: &mpsc::Sender<Event>) {
    let (client, events) = (client.clone(), events.clone());
    tokio::spawn(async move {
        wait_until_served::<K>(&client).await;
        follow::<K>(&client, &events).await;
    });
}

/// Waits until the API server knows the kind.
async fn wait_until_served<K: Kind>(client: &Client) {
    const PAUSE: Duration = Duration::from_secs(2);
    let api: Api<Guarded<K>> = Api::all(client.clone());
    let mut said = false;
    loop {
        match api.list_metadata(&ListParams::default().limit(1)).await {
            // The path of a kind that is not there has no Status in its answer, so no reason either.
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => {
                if !said {
                    tracing::warn!(
                        kind = K::PLURAL,
                        "the cluster does not know {0}.filstar.io yet: install the chart filstar-crds; waiting for it",
                        K::PLURAL
                    );
                }
                said = true;
            }
            Err(error) => tracing::warn!(kind = K::PLURAL, %error, "cannot list yet; trying again"),
            Ok(_) => return,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow<K: Kind>(client: &Client, events: &mpsc::Sender<Event>) {
    let mut config = watcher::Config::default().page_size(PAGE);
    if let Some(selector) = K::selector() {
        config = config.labels(&selector);
    }
    let stream = watcher(Api::<Guarded<K>>::all(client.clone()), config).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let mut listing = BTreeSet::new();
    while let Some(next) = stream.next().await {
        let sent = match next {
            Ok(event) => pass::<K>(event, &mut listing, events).await,
            Err(error) => {
                tracing::warn!(kind = K::PLURAL, %error, "the watch broke; it starts again");
                Ok(())
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn pass<K: Kind>(
    event: watcher::Event<Guarded<K>>,
    listing: &mut BTreeSet<Id>,
    events: &mpsc::Sender<Event>,
) -> Result<(), mpsc::error::SendError<Event>> {
    match event {
        watcher::Event::Init => {
            listing.clear();
            Ok(())
        }
        watcher::Event::InitApply(object) => {
            listing.insert(Id::of(&object));
            events.send(Event::Change(applied(object))).await
        }
        watcher::Event::InitDone => {
            let present = std::mem::take(listing);
            events.send(Event::Change(listed::<K>(present))).await?;
            events.send(Event::Synced(K::PLURAL)).await
        }
        watcher::Event::Apply(object) => events.send(Event::Change(applied(object))).await,
        watcher::Event::Delete(object) => events.send(Event::Change(deleted(&object))).await,
    }
}

/// An object is there, or another version of it.
pub fn applied<K: Kind>(object: Guarded<K>) -> Change {
    let id = Id::of(&object);
    let key = (K::PLURAL.to_owned(), id);
    match object.into_result() {
        Ok(mut object) => Box::new(move |world| {
            object.slim();
            let healed = world.unreadable.remove(&key).is_some();
            K::index(world).apply(object) || healed
        }),
        Err(unreadable) => Box::new(move |world| {
            let old = world.unreadable.insert(key, unreadable.clone());
            old.as_ref() != Some(&unreadable)
        }),
    }
}

/// An object is gone.
fn deleted<K: Kind>(object: &Guarded<K>) -> Change {
    let key = (K::PLURAL.to_owned(), Id::of(object));
    let meta = object.meta().clone();
    Box::new(move |world| {
        let unread = world.unreadable.remove(&key).is_some();
        K::index(world).bury(&key.1, meta.uid.as_deref()) || unread
    })
}

/// An object of ours is gone, by our own delete.
pub fn removed<K: Kind>(id: Id, uid: String) -> Change {
    Box::new(move |world| K::index(world).bury(&id, Some(&uid)))
}

/// A listing is complete: what is not in it is gone.
fn listed<K: Kind>(present: BTreeSet<Id>) -> Change {
    Box::new(move |world| {
        let before = world.unreadable.len();
        world
            .unreadable
            .retain(|(plural, id), _| plural != K::PLURAL || present.contains(id));
        let unread = before != world.unreadable.len();
        K::index(world).retain(&present) || unread
    })
}

/// Reads one kind anew, past all caches, into the world: done once when we begin to lead, so that nothing that the
/// leader before us wrote is missing.
///
/// # Errors
/// The listing failed.
pub async fn refresh<K: Kind>(client: &Client, world: &mut World) -> Result<(), kube::Error> {
    let api: Api<Guarded<K>> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    if let Some(selector) = K::selector() {
        params = params.labels(&selector);
    }
    loop {
        let page = api.list(&params).await?;
        for object in page.items {
            applied(object)(world);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Label selector of what we made.
fn ours() -> String {
    format!("{}=filstar", labels::MANAGED_BY)
}

#[cfg(test)]
mod tests;
