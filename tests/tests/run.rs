//! `dhow run`.

use harness::Dhow;

#[test]
fn the_exit_code_is_the_commands_own() {
    let dhow = Dhow::new("exit");
    for code in [0, 1, 7, 255] {
        let script = format!("exit {code}");
        assert_eq!(dhow.run(&["run", "--rm", "busybox", "sh", "-c", &script]).code, code);
    }
}
