//! What each refusal of a node means. The texts are those that lotus and Forest send.

use filstar_chain::Class;
use filstar_chain::node::Error;
use filstar_chain::node::error::PoolRefusal;
use filstar_chain::rpc::{ErrorObject, parse_response};

fn refused(method: &'static str, code: i64, message: &str) -> Error {
    Error::refused(
        "main",
        method,
        ErrorObject {
            code,
            message: message.to_owned(),
        },
    )
}

#[test]
fn missing_permission_names_the_method_and_the_permission() {
    let error = refused(
        "MpoolPush",
        1,
        "missing permission to invoke 'MpoolPush' (need 'write')",
    );
    assert_eq!(error.class(), Class::Fatal);
    let text = error.to_string();
    assert!(
        text.contains("MpoolPush") && text.contains("create-token --perm write"),
        "{text}"
    );
    let error = refused(
        "WalletSignMessage",
        1,
        "missing permission to invoke 'WalletSignMessage' (need 'sign')",
    );
    assert!(
        matches!(&error, Error::MissingPermission { needs, .. } if needs == "sign"),
        "{error}"
    );
}

#[test]
fn actors_that_do_not_exist_are_told_from_failing_calls() {
    for (code, text) in [
        (11, "actor not found"),
        (3, "actor not found"),
        (1, "failed to load miner actor: actor not found"),
        (
            1,
            "resolution lookup failed (t09999): resolve address t09999: actor not found",
        ),
    ] {
        let error = refused("StateMinerInfo", code, text);
        assert!(matches!(error, Error::ActorNotFound { .. }), "{error}");
        assert_eq!(error.class(), Class::Permanent);
    }
}

#[test]
fn failed_executions_carry_the_exit_code() {
    for (text, expected) in [
        (
            "message execution failed (exit=[16], revert reason=[bad], vm error=[x])",
            Some(16),
        ),
        (
            "message execution failed (exit=[ErrIllegalArgument(16)], vm error=[x])",
            Some(16),
        ),
        (
            "message execution failed: SysErrOutOfGas (RetCode=7)",
            Some(7),
        ),
        (
            "message execution failed: exit SysErrOutOfGas(7), reason: none left",
            Some(7),
        ),
        ("message execution failed: exit 16, reason: bad", Some(16)),
        ("message execution failed for another reason", None),
        ("message execution failed (exit=[], vm error=[x])", None),
    ] {
        let error = refused("GasEstimateMessageGas", 1, text);
        let Error::Execution { exit_code, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*exit_code, expected, "{text}");
        assert_eq!(error.class(), Class::Permanent);
    }
}

#[test]
fn out_of_gas_null_rounds_and_unknown_methods_have_codes_of_their_own() {
    assert!(matches!(
        refused("GasEstimateMessageGas", 2, "out of gas"),
        Error::OutOfGas { .. }
    ));
    assert!(matches!(
        refused("ChainGetTipSetByHeight", 12, "null round"),
        Error::NullRound { .. }
    ));
    let unknown = refused(
        "EthBaseFee",
        -32601,
        "method 'Filecoin.EthBaseFee' not found",
    );
    assert!(matches!(unknown, Error::NoSuchMethod { .. }));
    assert_eq!(unknown.class(), Class::Fatal);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_pool_s_refusals_are_told_apart() {
    let cases = [
        (
            "message nonce too low",
            PoolRefusal::NonceTooLow,
            Class::Permanent,
        ),
        (
            "unfulfilled nonce gap",
            PoolRefusal::NonceGap,
            Class::Temporary,
        ),
        (
            "message from t3x with nonce 5 already in mpool, increase GasPremium to 2 from 1 to trigger \
             replace by fee: replace by fee has too low GasPremium",
            PoolRefusal::PremiumTooLow,
            Class::Temporary,
        ),
        (
            "message with nonce already exists",
            PoolRefusal::AlreadyThere,
            Class::Temporary,
        ),
        (
            "gas fee cap too low",
            PoolRefusal::FeeCapTooLow,
            Class::Permanent,
        ),
        (
            "mpool push: not enough funds: 1 < 2",
            PoolRefusal::NotEnoughFunds,
            Class::Temporary,
        ),
        (
            "too many pending messages for actor",
            PoolRefusal::TooMany,
            Class::Temporary,
        ),
        ("message too big", PoolRefusal::TooBig, Class::Permanent),
        (
            "message not valid for block inclusion: invalid 'To' address",
            PoolRefusal::NotValid,
            Class::Permanent,
        ),
        (
            "verify msg failed: message will not be included in a block: 'GasLimit' field cannot be less than the \
             cost of storing a message on chain 152605 < 288863",
            PoolRefusal::NotValid,
            Class::Permanent,
        ),
        (
            "message had invalid to address",
            PoolRefusal::NotValid,
            Class::Permanent,
        ),
        (
            "cannot send more filecoin than will ever exist",
            PoolRefusal::NotValid,
            Class::Permanent,
        ),
        (
            "not enough funds including pending messages (required: 2 FIL, balance: 1 FIL): validation failure",
            PoolRefusal::NotEnoughFunds,
            Class::Temporary,
        ),
    ];
    for (text, expected, class) in cases {
        let error = refused("MpoolPush", 1, text);
        assert!(
            matches!(error, Error::Pool { refusal, .. } if refusal == expected),
            "{error}"
        );
        assert_eq!(error.class(), class, "{text}");
    }
}

#[test]
fn what_is_not_recognised_is_temporary() {
    for (code, text) in [
        (1, "something new"),
        (-32005, "limit exceeded"),
        (0, ""),
        (99, "x"),
    ] {
        let error = refused("StateMinerInfo", code, text);
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert_eq!(error.class(), Class::Temporary);
    }
    // What a pool calls a validation failure and no more may pass.
    let soft = refused(
        "MpoolPush",
        1,
        "GasFeeCap doesn't meet base fee lower bound for inclusion in the next 20 blocks: validation failure",
    );
    assert_eq!(soft.class(), Class::Temporary, "{soft}");
    // The pool's texts mean nothing from another method.
    assert!(matches!(
        refused("StateCall", 1, "message too big"),
        Error::Refused { .. }
    ));
}

#[test]
fn forgotten_state_points_to_an_archive() {
    let error = refused("StateSectorPreCommitInfo", 1, "blockstore: block not found");
    assert!(matches!(error, Error::Forgotten { .. }));
    assert!(error.to_string().contains("archive"), "{error}");
}

#[test]
fn bodies_without_result_or_error_read_as_null() {
    assert_eq!(
        parse_response(br#"{"jsonrpc":"2.0","id":1}"#).unwrap(),
        Ok("null".to_owned())
    );
    assert_eq!(
        parse_response(br#"{"jsonrpc":"2.0","id":1,"result":null}"#).unwrap(),
        Ok("null".to_owned())
    );
    let both = parse_response(br#"{"result":1,"error":{"code":1,"message":"no"}}"#).unwrap();
    assert_eq!(
        both,
        Err(ErrorObject {
            code: 1,
            message: "no".to_owned()
        })
    );
    assert_eq!(
        parse_response(br#"{"result":[1, 2],"error":null}"#).unwrap(),
        Ok("[1, 2]".to_owned())
    );
    assert!(parse_response(b"<html>").is_err());
}
