stk_test(team_binding SOURCES test_team_binding.c LINK stk_base)
