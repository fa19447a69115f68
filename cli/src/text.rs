//! Small texts: lengths of time, conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// What the API server says, without what only programs need.
pub(crate) fn plain(error: kube::Error) -> anyhow::Error {
    if let kube::Error::Api(status) = &error {
        // The path of a kind that is not there has no Status in its answer.
        if status.code == 404 && status.message.contains("page not found") {
            return anyhow::anyhow!(
                "the cluster does not know the kinds of Filstar: install the chart filstar-crds, or name another cluster with --context"
            );
        }
        return anyhow::anyhow!("{}", status.message);
    }
    error.into()
}

/// `7s`, `2m05s`, `3h07m`.
pub(crate) fn length(seconds: i64) -> String {
    let s = seconds.max(0);
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s / 60 % 60),
    }
}

/// How an object says it is: the reason of its `Ready` condition.
pub(crate) fn ready_reason(conditions: &[Condition]) -> &str {
    ready(conditions).map_or("-", |c| c.reason.as_str())
}

/// Whether an object says that it is not well; one that says nothing yet is not well either.
pub(crate) fn not_ready(conditions: &[Condition]) -> bool {
    ready(conditions).is_none_or(|c| c.status != "True")
}

/// The `Ready` condition.
pub(crate) fn ready(conditions: &[Condition]) -> Option<&Condition> {
    condition(conditions, filstar_crds::conditions::READY)
}

/// The condition of a type.
pub(crate) fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// The first `count` characters, with dots when there are more.
pub(crate) fn short(text: &str, count: usize) -> String {
    if text.chars().count() <= count {
        return text.into();
    }
    text.chars().take(count).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_without_our_kinds_is_told_from_an_object_that_is_not_there() {
        let said = |message: &str| {
            let status = kube::core::Status {
                code: 404,
                message: message.into(),
                ..kube::core::Status::default()
            };
            plain(kube::Error::Api(Box::new(status))).to_string()
        };
        assert!(said("404 page not found").contains("filstar-crds"));
        let missing = "sectors.filstar.io \"t01000-7\" not found";
        assert_eq!(said(missing), missing);
    }

    #[test]
    fn length_has_two_units_at_most() {
        assert_eq!(length(-3), "0s");
        assert_eq!(length(59), "59s");
        assert_eq!(length(125), "2m05s");
        assert_eq!(length(11_229), "3h07m");
    }

    #[test]
    fn short_text_stays_whole() {
        assert_eq!(short("abc", 3), "abc");
        assert_eq!(short("abcd", 3), "abc…");
    }
}
