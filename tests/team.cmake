stk_test(team SOURCES test_team.c LINK stk_base)
