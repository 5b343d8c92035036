"""What the processes of a server, their supervisor and clients on the same machine agree on.

run_directory   the folder of one run of a server
heartbeat       what a model instance tells the supervisor
keys            what opens a server's shared memory to clients of the same user
unavailable     what Triton says where it can answer later
"""
