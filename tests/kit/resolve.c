/* What a C library makes of names: a line for each argument, its addresses or why there are none. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const char *why(int code)
{
    return code == EAI_NONAME ? "NONAME" : code == EAI_AGAIN ? "AGAIN" : gai_strerror(code);
}

static const void *bytes_of(const struct addrinfo *item)
{
    if (item->ai_family == AF_INET)
        return &((struct sockaddr_in *)item->ai_addr)->sin_addr;
    return &((struct sockaddr_in6 *)item->ai_addr)->sin6_addr;
}

int main(int count, char **names)
{
    for (int i = 1; i < count; i++) {
        struct addrinfo hints, *found = NULL;
        char text[INET6_ADDRSTRLEN];

        memset(&hints, 0, sizeof hints);
        hints.ai_socktype = SOCK_STREAM;
        int code = getaddrinfo(names[i], NULL, &hints, &found);
        printf("%s%s%s", names[i], code ? " " : "", code ? why(code) : "");
        for (struct addrinfo *item = found; !code && item; item = item->ai_next)
            printf(" %s", inet_ntop(item->ai_family, bytes_of(item), text, sizeof text));
        printf("\n");
    }
    return 0;
}
