//! Plans as data: a world in, actions out. One program, so that it is linked once.

#![expect(clippy::unwrap_used, reason = "what a test cannot get fails it")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks at the actions that it is about"
)]
#![expect(
    clippy::unnecessary_wraps,
    reason = "helpers make what the fields take"
)]

mod cordons;
mod drain;
mod drain_ends;
mod drain_sim;
mod gates;
mod gates_disks;
mod gates_pace;
mod gates_prop;
mod given_up;
mod gone;
mod groups;
mod kept;
mod messages;
mod messages_sim;
mod overdue;
mod places;
mod pods;
mod pools;
mod post;
mod provers;
mod provers_lost;
mod provers_stay;
mod reach;
mod recover;
mod repair;
mod sectors;
mod support;
mod sweep;
mod sweep_prop;
mod users;
