"""Cases by operation: a module `<op>` has `cases() -> list[Case]`, tiny ones for CI and full ones for a device."""
